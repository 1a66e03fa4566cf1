"""Comparing an exported network with torch: shares against counts made by hand."""

from __future__ import annotations

import pytest
import torch

from medseg.bundle.export_check import Checked, batches_of, compare, require, torch_outputs
from medseg.errors import BundleError
from medseg.networks import UNet

GOOD = Checked(1, 1000, 100, 1.0, 1.0, 1e-5, 4.0, 1.0)


def logits(labels: torch.Tensor, classes: int = 3) -> torch.Tensor:
    """(n, classes, *space) whose largest is the label, by 2."""
    return 2 * torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()


def test_shares_are_those_of_counted_voxels():
    labels = torch.zeros(2, 4, 5, 5, dtype=torch.int64)  # 200 voxels
    labels[0, :2] = 1  # 50
    labels[1, 0] = 2  # 25
    other = labels.clone()
    other[0, 0, 0, :3] = 0  # 3 of the foreground differ
    other[1, 3, 0, :2] = 1  # 2 of the background become foreground
    found = compare(lambda batch: logits(other), [torch.zeros(2, 1, 4, 5, 5)], [logits(labels)], None)
    assert (found.voxels, found.foreground) == (200, 77)
    assert found.labels_equal == pytest.approx(195 / 200)
    assert found.foreground_equal == pytest.approx(72 / 77)
    assert (found.largest_difference, found.largest_logit) == (2.0, 2.0)
    assert not found.suffices
    assert found.ms >= 0


def test_regions_are_painted_in_their_order():
    whole = torch.full((1, 2, 2, 2, 2), -1.0)
    whole[:, 0] = 1  # region 1 everywhere
    inner = whole.clone()
    inner[0, 1, 0, 0, 0] = 1  # region 2 in one voxel
    found = compare(lambda batch: inner, [torch.zeros(1, 1, 2, 2, 2)], [whole], (4, 7))
    assert (found.voxels, found.foreground) == (8, 8)
    assert found.labels_equal == pytest.approx(7 / 8)


def test_nothing_found_by_either_agrees():
    nothing = logits(torch.zeros(1, 2, 2, 2, dtype=torch.int64))
    found = compare(lambda batch: nothing, [torch.zeros(1, 1, 2, 2, 2)], [nothing], None)
    assert (found.foreground, found.foreground_equal, found.suffices) == (0, 1.0, True)


def test_logits_that_are_not_finite_never_suffice():
    nothing = logits(torch.zeros(1, 2, 2, 2, dtype=torch.int64))
    broken = nothing.clone()
    broken[0, 1, 0, 0, 0] = float("nan")
    found = compare(lambda batch: broken, [torch.zeros(1, 1, 2, 2, 2)], [nothing], None)
    assert found.largest_difference == float("inf")
    assert not found.suffices


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"labels_equal": 0.9998}, "99.9800% of voxels"),
        ({"foreground_equal": 0.9985}, "99.850% of the foreground"),
        ({"largest_difference": 0.0041}, "0.0041"),
    ],
)
def test_a_file_that_departs_from_torch_is_refused_with_the_figures(change, word):
    require(GOOD, "model.onnx")
    with pytest.raises(BundleError, match=word) as refused:
        require(Checked(**{**vars(GOOD), **change}), "model.onnx")
    assert refused.value.code == "MS-B125"


def test_what_is_free_is_tried_in_another_size():
    patches = [torch.rand(1, 4, 6, 8), torch.rand(1, 4, 6, 8)]
    free = batches_of(patches, (None, 1, None, None, None))
    assert [tuple(batch.shape) for batch in free] == [
        (1, 1, 4, 6, 8), (1, 1, 4, 6, 8), (2, 1, 4, 6, 8), (1, 1, 8, 6, 8), (1, 1, 4, 12, 8), (1, 1, 4, 6, 16),
    ]  # fmt: skip
    assert torch.equal(free[2], torch.stack(patches))
    half = batches_of(patches, (None, 1, 4, 6, None))
    assert [tuple(batch.shape) for batch in half[2:]] == [(2, 1, 4, 6, 8), (1, 1, 4, 6, 16)]
    assert len(batches_of(patches, (1, 1, 4, 6, 8))) == 2


def test_torch_computes_a_lone_window_as_the_inferer_does():
    torch.manual_seed(0)
    network = UNet(1, 3, [4, 8]).eval()
    batch = torch.rand(1, 1, 8, 8, 8)
    (found,) = torch_outputs(network, [batch])
    with torch.no_grad():
        torch.testing.assert_close(found, network(batch), rtol=1e-4, atol=1e-5)
