from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.boxes.convention import boxes_of_instances
from medseg.boxes.crops import Crop, crop_iom_matrix, crop_iou_matrix, crops_of_instances, suppress_by_mask
from medseg.boxes.nms import nms
from medseg.boxes.overlap import iom_matrix, iou_matrix
from tests.boxes.drawn import integer_crowd, scores, seeds

SIDE = 24


def ragged(n: int, seed: int) -> list[Crop]:
    """Crops of random voxels, some of them partly outside the volume."""
    rng = np.random.default_rng(seed)
    crops = []
    for _ in range(n):
        mask = rng.random(rng.integers(1, 8, 3)) < 0.6
        crops.append(Crop(tuple(rng.integers(-3, 12, 3)), torch.from_numpy(mask)))
    return crops


def full(crops: list[Crop]) -> torch.Tensor:
    """(N, voxels) float64: every mask in a volume of its own, moved by 4 so that nothing lies outside."""
    out = torch.zeros(len(crops), SIDE, SIDE, SIDE, dtype=torch.float64)
    for volume, crop in zip(out, crops, strict=True):
        a, b, c = (x + 4 for x in crop.low)
        d, h, w = crop.mask.shape
        volume[a : a + d, b : b + h, c : c + w] = crop.mask.double()
    return out.flatten(1)


def ellipsoid(centre: tuple[float, float, float], aspect: float, shape=(12, 80, 80)) -> torch.Tensor:
    """A long ellipsoid at 45 degrees in the plane of the last two axes; short half axis 4 voxels."""
    z, y, x = (torch.arange(n) + 0.5 - c for n, c in zip(shape, centre, strict=True))
    along = (y[:, None] + x[None]) / 2**0.5
    across = (y[:, None] - x[None]) / 2**0.5
    return (z[:, None, None] / 4) ** 2 + (across / 4)[None] ** 2 + (along / (4 * aspect))[None] ** 2 <= 1


def test_the_example_of_the_docstring():
    crops = [
        Crop((0, 0, 0), torch.ones(2, 1, 3, dtype=torch.bool)),
        Crop((0, 0, 2), torch.ones(2, 1, 2, dtype=torch.bool)),
    ]
    assert crop_iou_matrix(crops).tolist() == [[1, 0.25], [0.25, 1]]
    assert crop_iom_matrix(crops).tolist() == [[1, 0.5], [0.5, 1]]
    assert crops[1].box.tolist() == [0, 0, 2, 2, 1, 4]
    assert crops[0].voxels == 6


@given(seeds, st.integers(0, 12), st.integers(0, 12))
def test_full_volumes_give_the_same(seed, n, m):
    a, b = ragged(n, seed), ragged(m, seed + 1)
    p, r = full(a), full(b)
    shared, of_p, of_r = p @ r.T, p.sum(1)[:, None], r.sum(1)[None]
    assert torch.equal(crop_iou_matrix(a, b), shared / (of_p + of_r - shared).clamp(min=1))
    assert torch.equal(crop_iom_matrix(a, b), shared / torch.minimum(of_p, of_r).clamp(min=1))
    assert torch.equal(crop_iou_matrix(a), crop_iou_matrix(a, a))
    assert torch.equal(crop_iom_matrix(a), crop_iom_matrix(a, a))


def test_filled_boxes_overlap_like_boxes():
    boxes = integer_crowd(60, 1)
    crops = [Crop(tuple(b[:3]), torch.ones(*(int(v) for v in b[3:] - b[:3]), dtype=torch.bool)) for b in boxes.int()]
    assert torch.equal(torch.stack([c.box for c in crops]), boxes)
    assert torch.equal(crop_iou_matrix(crops), iou_matrix(boxes.double(), boxes.double()))
    assert torch.equal(crop_iom_matrix(crops), iom_matrix(boxes.double(), boxes.double()))
    for threshold in (0.1, 0.5):
        assert torch.equal(
            suppress_by_mask(crops, scores(60), iou=threshold), nms(boxes.double(), scores(60), threshold)
        )


@given(seeds, st.integers(0, 15), st.sampled_from([None, 0.2]), st.sampled_from([None, 0.5]), st.booleans())
def test_suppression_is_the_greedy_rule(seed, n, iou, iom, by_class):
    crops, score = ragged(n, seed), scores(n, seed)
    classes = torch.arange(n) % 2 if by_class else torch.zeros(n, dtype=torch.int64)
    overlap, part = crop_iou_matrix(crops), crop_iom_matrix(crops)
    kept: list[int] = []
    for i in sorted(range(n), key=lambda i: (-score[i], i)):
        rivals = [k for k in kept if classes[k] == classes[i]]
        if all((iou is None or overlap[i, k] <= iou) and (iom is None or part[i, k] <= iom) for k in rivals):
            kept.append(i)
    got = suppress_by_mask(crops, score, iou=iou, iom=iom, classes=classes if by_class else None)
    assert got.tolist() == kept


@pytest.mark.parametrize(("aspect", "expected"), [(2, 0.18), (4, 0.40), (6, 0.54)])
def test_long_neighbours_survive_suppression_by_mask_and_not_by_box(aspect, expected):
    """Two parallel ellipsoids that do not touch: box suppression at the usual 0.1 deletes a true one."""
    apart = 8.5 / 2**0.5 / 2  # half the distance between their axes, along each of two array axes
    first = ellipsoid((6, 40 - apart, 40 + apart), aspect)
    second = ellipsoid((6, 40 + apart, 40 - apart), aspect)
    assert not (first & second).any()
    ids, crops = crops_of_instances(first.int() + 2 * second.int())
    boxes = torch.stack([crop.box for crop in crops])
    score = torch.tensor([0.9, 0.8])
    assert ids.tolist() == [1, 2]
    assert iou_matrix(boxes, boxes)[0, 1].item() == pytest.approx(expected, abs=0.06)
    assert nms(boxes, score, 0.1).tolist() == [0]
    assert suppress_by_mask(crops, score, iou=0.1, iom=0.1).tolist() == [0, 1]


def test_a_fragment_inside_a_whole_is_found_by_the_smaller():
    whole = Crop((0, 0, 0), torch.ones(10, 10, 10, dtype=torch.bool))
    fragment = Crop((2, 2, 2), torch.ones(3, 3, 3, dtype=torch.bool))
    score = torch.tensor([0.9, 0.95])
    assert suppress_by_mask([whole, fragment], score, iou=0.5).tolist() == [1, 0]
    assert suppress_by_mask([whole, fragment], score, iou=0.5, iom=0.8).tolist() == [1]


def test_crops_of_a_map_rebuild_it():
    rng = np.random.default_rng(5)
    labels = torch.from_numpy(rng.integers(0, 6, (7, 8, 9)) * (rng.random((7, 8, 9)) < 0.3))
    ids, crops = crops_of_instances(labels)
    again = torch.zeros_like(labels)
    for value, crop in zip(ids, crops, strict=True):
        a, b, c = crop.low
        d, h, w = crop.mask.shape
        again[a : a + d, b : b + h, c : c + w][crop.mask] = value
    assert torch.equal(again, labels)
    assert torch.equal(torch.stack([crop.box for crop in crops]), boxes_of_instances(labels)[1])
    assert torch.equal(crop_iou_matrix(crops), torch.eye(len(crops), dtype=torch.float64))


def test_empty_masks_and_no_crops():
    empty = Crop((0, 0, 0), torch.zeros(3, 3, 3, dtype=torch.bool))
    nothing = Crop((0, 0, 0), torch.zeros(0, 3, 3, dtype=torch.bool))
    assert crop_iou_matrix([empty, nothing]).tolist() == [[0, 0], [0, 0]]
    assert suppress_by_mask([empty, empty, nothing], torch.tensor([0.1, 0.2, 0.3])).tolist() == [2, 1, 0]
    assert crop_iou_matrix([]).shape == (0, 0)
    assert crop_iom_matrix([], [empty]).shape == (0, 1)
    assert suppress_by_mask([], torch.empty(0)).shape == (0,)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"\(d, h, w\) bool, got \(2, 2\) torch.bool"):
        Crop((0, 0, 0), torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"torch.float32"):
        Crop((0, 0, 0), torch.ones(2, 2, 2))
    with pytest.raises(ValueError, match=r"1 crops need one score \(and class\) each, got \(2,\)"):
        suppress_by_mask([Crop((0, 0, 0), torch.ones(1, 1, 1, dtype=torch.bool))], torch.zeros(2))
