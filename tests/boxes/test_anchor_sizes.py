from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.boxes.anchor_sizes import fit_sizes, levels_of
from medseg.boxes.anchors import anchors_of_level
from medseg.boxes.overlap import iou_matrix
from tests.boxes.drawn import seeds

STRIDES = [(2, 2, 2), (4, 4, 4), (8, 8, 8)]


def objects(n: int, seed: int = 0, low: float = 6, high: float = 60) -> torch.Tensor:
    """(n, 3) sizes in mm, evenly spread by ratio, axes within a factor 2 of each other."""
    rng = torch.Generator().manual_seed(seed)
    mean = low * (high / low) ** torch.rand(n, 1, generator=rng, dtype=torch.float64)
    return mean * 2 ** (torch.rand(n, 3, generator=rng, dtype=torch.float64) - 0.5)


def test_equal_cubes_are_met_exactly():
    got = fit_sizes(torch.full((50, 3), 24.0), 1, (1.5, 1.5, 1.5), STRIDES)
    level = int(got.objects_per_level.argmax())
    assert got.objects_per_level[level] == 50
    assert got.sizes_mm.shape == got.sizes_voxels.shape == (3, 1, 3)
    assert got.sizes_mm[level].tolist() == [[24.0] * 3]
    assert got.sizes_voxels[level].tolist() == [[16.0] * 3]
    assert got.best_possible_recall[0.5] == 1.0


def test_by_hand_on_an_anisotropic_grid():
    """Objects of 8 x 16 x 16 mm at 4 x 1 x 1 mm with cells 1 x 4 x 4: 2 x 4 x 4 cells, their mean 3.17."""
    got = fit_sizes(torch.tensor([[8.0, 16, 16]] * 9), 1, (4.0, 1.0, 1.0), [(1, 4, 4)])
    assert got.shapes.tolist() == [[2, 4, 4]]
    assert got.sizes_voxels.tolist() == [[[2, 16, 16]]]
    assert got.sizes_mm.tolist() == [[[8, 16, 16]]]
    assert got.typical_cells == pytest.approx(32 ** (1 / 3))


def test_two_kinds_of_objects_become_two_shapes():
    kinds = torch.tensor([[10.0, 10, 40]] * 30 + [[40.0, 10, 10]] * 30 + [[10.0, 10.5, 40]] * 3)
    got = fit_sizes(kinds, 2, (1.0, 1.0, 1.0), [(4, 4, 4)])
    assert sorted(got.sizes_mm[0].tolist()) == [[10, 10, 40], [40, 10, 10]]


def test_the_choice_is_near_the_best_of_all_choices():
    """Every pair of objects tried as shapes: greedy choice and medians come within 2 percent or do better."""
    sizes = objects(40, 3, 8, 24)
    got = fit_sizes(sizes, 2, (1.0, 1.0, 1.0), [(4, 4, 4)])

    def reached(shapes: torch.Tensor) -> float:
        shared = torch.minimum(shapes[:, None], sizes[None]).prod(-1)
        return float((shared / (shapes.prod(-1)[:, None] + sizes.prod(-1)[None] - shared)).amax(0).mean())

    best = max(reached(sizes[list(pair)]) for pair in itertools.combinations(range(40), 2))
    assert reached(got.sizes_mm[0]) >= 0.98 * best


def test_recall_is_what_anchors_on_the_grid_reach():
    """Objects laid at random into a volume, all anchors of all levels made: the same share is within reach."""
    sizes, spacing = objects(400, 4), torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64)
    strides = [(1, 2, 2), (2, 4, 4), (4, 8, 8)]
    got = fit_sizes(sizes, 3, spacing.tolist(), strides)
    levels = zip(strides, got.sizes_voxels, strict=True)
    anchors = torch.cat([anchors_of_level([64 // n for n in s], s, shapes) for s, shapes in levels])
    voxels = sizes / spacing
    middle = 24 + 16 * torch.rand(400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    near = ((anchors[:, :3] + anchors[:, 3:]) / 2 - 32).abs().amax(1) < 16
    best = iou_matrix(torch.cat([middle - voxels / 2, middle + voxels / 2], 1), anchors[near]).amax(1)
    assert got.mean_iou == pytest.approx(best.mean().item(), abs=0.015)
    for iou in (0.3, 0.5):
        assert got.best_possible_recall[iou] == pytest.approx((best >= iou).double().mean().item(), abs=0.03)
    assert 0.5 < got.best_possible_recall[0.5] <= got.best_possible_recall[0.3] <= 1


def test_all_levels_are_used_and_the_median_object_lies_in_the_middle():
    got = fit_sizes(objects(500, 5, 6, 60), 3, (1.0, 1.0, 1.0), STRIDES)
    assert (got.objects_per_level > 25).all()
    assert got.objects_per_level.sum() == 500
    cells = torch.tensor(STRIDES).double()
    median = objects(500, 5, 6, 60).prod(1).median() ** (1 / 3)
    assert levels_of(median.expand(1, 3), cells, got.typical_cells).item() == 1


def test_tiny_objects_bring_fewer_cells_and_lower_recall():
    few, many = (fit_sizes(objects(200, 6, a, 1.5 * a), 3, (1.0, 1.0, 1.0), [(4, 4, 4)]) for a in (3, 30))
    assert few.typical_cells == 2
    assert many.typical_cells == pytest.approx(8, abs=1)
    assert few.best_possible_recall[0.5] < 0.6 < 0.99 < many.best_possible_recall[0.5]


@given(seeds, st.integers(1, 5))
def test_more_shapes_never_reach_less_by_much_and_units_do_not_matter(seed, count):
    sizes = objects(60, seed)
    got = fit_sizes(sizes, count, (1.0, 1.0, 1.0), STRIDES)
    assert got.shapes.shape == (count, 3)
    assert (got.shapes.prod(1).diff() >= 0).all()
    inches = fit_sizes(sizes / 25.4, count, (1 / 25.4,) * 3, STRIDES)
    torch.testing.assert_close(inches.sizes_voxels, got.sizes_voxels)
    torch.testing.assert_close(inches.sizes_mm * 25.4, got.sizes_mm)
    turned = fit_sizes(sizes[:, [2, 0, 1]], count, (1.0, 1.0, 1.0), STRIDES)
    torch.testing.assert_close(turned.shapes, got.shapes[:, [2, 0, 1]])
    more = fit_sizes(sizes, count + 3, (1.0, 1.0, 1.0), STRIDES)
    assert more.mean_iou > got.mean_iou - 0.01


def test_more_shapes_than_kinds_of_objects_fill_the_steps_between_levels():
    got = fit_sizes(torch.full((5, 3), 12.0), 3, (1.0, 1.0, 1.0), STRIDES)
    side = got.sizes_mm[int(got.objects_per_level.argmax()), :, 0]
    assert side.tolist() == pytest.approx([12 * 2 ** (-1 / 6), 12, 12 * 2 ** (1 / 6)])


def test_levels_by_hand():
    cells = torch.tensor([[2.0, 2, 2], [4, 4, 4], [8, 8, 8]])
    sizes = torch.tensor([[1.0, 1, 1], [8, 8, 8], [11, 11, 11], [12, 12, 12], [16, 8, 32], [90, 90, 90], [64, 8, 8]])
    assert levels_of(sizes, cells, 4.0).tolist() == [0, 0, 0, 1, 1, 2, 1]


def test_objects_that_cannot_be_fitted_are_refused():
    for sizes, count in ((torch.empty(0, 3), 1), (torch.ones(2, 3), 0), (torch.tensor([[1.0, 0, 1]]), 1)):
        with pytest.raises(ValueError, match="positive size and count >= 1"):
            fit_sizes(sizes, count, (1.0, 1.0, 1.0), STRIDES)
