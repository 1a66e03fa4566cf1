"""Which planes form a volume: the rule by brute force on made-up keys."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import GeometryError
from medseg.readers.dicom import split
from medseg.readers.dicom.planes import Plane
from medseg.readers.dicom.split import split_volumes


def plane(z: float, values: float = 0.0, instance: int | None = None, modality: str = "MR", **keys) -> Plane:
    tags = {"instance_number": instance, "pixels": values, "modality": modality}
    header = SimpleNamespace(path=SimpleNamespace(name=f"{z}", parent="folder"), get=tags.get)
    keys = {name.replace("_", " "): value for name, value in keys.items()}
    iop = (1.0, 0, 0, 0, 1.0, 0)
    return Plane(header, 2, 2, (0.0, 0.0, float(z)), iop, (1.0, 1.0), keys=keys)  # pyright: ignore[reportArgumentType]


@pytest.fixture(autouse=True)
def pixels(monkeypatch):
    monkeypatch.setattr(split, "plane_values", lambda p: np.full((2, 2), p.header.get("pixels")))


@given(
    echoes=st.integers(1, 3),
    instants=st.integers(1, 4),
    slices=st.integers(2, 6),
    order=st.randoms(use_true_random=False),
)
def test_a_product_of_keys_comes_apart(echoes, instants, slices, order):
    made = [
        plane(z, values=100 * e + t, echo_time=float(e), temporal_position=float(t))
        for e in range(echoes)
        for t in range(instants)
        for z in range(slices)
    ]
    order.shuffle(made)
    parts = split_volumes(made)
    assert len(parts) == echoes * instants
    for n, part in enumerate(parts):
        assert [p.position[2] for p in part.planes] == list(range(slices))
        assert {p.header.get("pixels") for p in part.planes} == {100 * (n // instants) + n % instants}


@given(acquisitions=st.lists(st.integers(0, 5), min_size=3, max_size=12))
def test_no_key_splits_what_has_no_two_planes_at_one_place(acquisitions):
    made = [plane(z, acquisition=a) for z, a in enumerate(acquisitions)]
    (part,) = split_volumes(made)
    assert len(part.planes) == len(acquisitions)


@pytest.mark.parametrize(("key", "modality", "count"), [
    ("contrast_agent", "CT", 2), ("echo_time", "MR", 2), ("acquisition", "CT", 2), ("acquisition", "MR", 1),
])  # fmt: skip
def test_even_stacks_half_a_step_apart_are_told_by_what_no_volume_mixes(key, modality, count):
    # Together they are even as well: two phases of a CT, but also the concatenations of one MR scan.
    made = [plane(z / 2, modality=modality, **{key: z % 2}) for z in range(12)]
    parts = split_volumes(made)
    assert [len(part.planes) for part in parts] == [12 // count] * count


def test_a_short_phase_over_a_long_one_comes_apart():
    made = [plane(z, acquisition=1) for z in range(10)] + [plane(z, values=7, acquisition=2) for z in range(3, 7)]
    assert [len(part.planes) for part in split_volumes(made)] == [10, 4]


def test_volumes_are_ordered_by_the_numbers_of_their_dimensions():
    made = [plane(z, values=t, dimension_index=(1, t)) for t in range(12) for z in range(3)]
    assert [part.keys["dimension index"] for part in split_volumes(made)] == [(1, t) for t in range(12)]


def test_a_key_that_makes_small_crumbs_is_not_taken():
    made = [plane(z, acquisition=z // 2) for z in range(10)] + [plane(4, values=7, acquisition=9)]
    with pytest.raises(GeometryError, match="2 different slices lie at z=4 mm") as caught:
        split_volumes(made)
    assert caught.value.code == "MS-D112"


def test_a_second_key_is_tried_where_the_first_does_not_separate():
    made = [plane(z, values=t, echo_time=float(z), temporal_position=float(t)) for t in range(2) for z in range(4)]
    assert [part.keys for part in split_volumes(made)] == [{"temporal position": 0.0}, {"temporal position": 1.0}]


def test_copies_go_only_where_every_pixel_agrees():
    made = [plane(z, values=z) for z in range(5)]
    (part,) = split_volumes([*made, plane(2, values=2)])
    assert len(part.planes) == 5
    assert [d.code for d in part.decisions] == ["MS-D203"]
    with pytest.raises(GeometryError, match="nothing tells which volume"):
        split_volumes([*made, plane(2, values=3)])


def test_a_series_of_which_some_instants_have_equal_slices_loses_none():
    # Slice 0 is empty at both instants; it is no copy, since the instants differ elsewhere.
    made = [plane(z, values=t * z, instance=10 * t + z) for t in range(2) for z in range(4)]
    parts = split_volumes(made)
    assert [[p.header.get("pixels") for p in part.planes] for part in parts] == [[0, 0, 0, 0], [0, 1, 2, 3]]


def test_unequal_counts_cannot_be_ranked():
    made = [plane(z, values=t + 1, instance=10 * t + z) for t in range(2) for z in range(4)]
    with pytest.raises(GeometryError, match="nothing tells"):
        split_volumes(made[:-1])
