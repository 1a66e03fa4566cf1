"""Oracles: torch.argmax, and a voxel-by-voxel painter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError, UsageError
from medseg.inferers import sinks
from medseg.inferers.sinks import LabelSink, LogitSink, RegionSink, check_classes, largest_class, painted_regions


def scores(classes: int, seed: int, *, ties: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((classes, 5, 6, 7), generator=generator)
    return values.round() if ties else values


@given(st.integers(2, 12), st.integers(0, 99), st.booleans())
def test_largest_class_is_argmax_and_of_equals_the_lowest(classes, seed, ties):
    s = scores(classes, seed, ties=ties)
    assert torch.equal(largest_class(s).long(), s.argmax(0))


def test_largest_class_counts_to_255():
    s = torch.zeros(256, 1, 1, 256)
    s[torch.arange(256), 0, 0, torch.arange(256)] = 1
    assert largest_class(s).flatten().tolist() == list(range(256))


def test_largest_class_knows_infinity():
    s = torch.zeros(3, 1, 1, 2)
    s[0], s[2, ..., 0], s[1, ..., 1] = -torch.inf, torch.inf, 5
    assert largest_class(s).flatten().tolist() == [2, 1]


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_nan_in_any_channel_is_refused(channel):
    s = scores(3, 0, ties=False)
    s[channel, 2, 3, 4] = torch.nan
    with pytest.raises(InputError, match="MS-U143 the network returned values that are not numbers"):
        largest_class(s)
    with pytest.raises(InputError, match="MS-U143"):
        painted_regions(s, (1, 2, 3))


@given(st.lists(st.integers(0, 255), min_size=1, max_size=4), st.integers(0, 99))
def test_regions_are_painted_in_order(values, seed):
    s = scores(len(values), seed, ties=True)
    wanted = torch.zeros(s.shape[1:], dtype=torch.uint8)
    for voxel in torch.cartesian_prod(*(torch.arange(n) for n in s.shape[1:])):
        place = tuple(voxel.tolist())
        for channel, value in enumerate(values):
            if s[(channel, *place)] > 0:
                wanted[place] = value
    assert torch.equal(painted_regions(s, values), wanted)


@pytest.mark.parametrize("piece", [1, 30, 10**6])
def test_sinks_write_where_they_are_told_in_pieces_of_any_size(monkeypatch, piece):
    monkeypatch.setattr(sinks, "CPU_PIECE", piece)
    s = scores(3, 1, ties=False)
    where = (slice(2, 7), slice(0, 6), slice(1, 8))
    labels, regions, logits = (
        torch.zeros(2, 9, 6, 9, dtype=torch.uint8),
        torch.zeros(2, 9, 6, 9, dtype=torch.uint8),
        torch.zeros(2, 3, 9, 6, 9),
    )
    LabelSink(labels).write(1, where, s)
    RegionSink(regions, (4, 5, 6)).write(1, where, s)
    LogitSink(logits).write(1, where, s)
    assert torch.equal(labels[(1, *where)].long(), s.argmax(0))
    assert torch.equal(regions[(1, *where)], painted_regions(s, (4, 5, 6)))
    assert torch.equal(logits[(1, slice(None), *where)], s)
    for kept in (labels, regions, logits):
        assert not kept[0].any()
        assert not kept[1, ..., 0].any()


@pytest.mark.parametrize(
    ("classes", "regions", "match"),
    [
        (3, (1, 2), "MS-U142 the network returns 3 channels and regions names 2 values"),
        (1, None, r"MS-U142 the network returns 1 channel(.|\n)*regions=\[1\]"),
        (257, None, "MS-U142 the network returns 257 classes and a label map holds 256"),
    ],
)
def test_channels_that_labels_cannot_mean_are_refused(classes, regions, match):
    with pytest.raises(UsageError, match=match):
        check_classes(classes, regions)
