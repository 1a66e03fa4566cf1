from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape

from medseg.boxes.anchors import anchors_of_level
from medseg.boxes.convention import centres, sizes
from medseg.boxes.overlap import iou_matrix

small = st.integers(1, 4)
triples = st.tuples(small, small, small)


def test_the_example_of_the_docstring():
    anchor = anchors_of_level((1, 2, 1), (1, 2, 1), [(3.0, 4.0, 1.0)])[1]
    assert anchor.tolist() == [-1, 1, 0, 2, 5, 1]


@given(triples, triples, st.lists(st.tuples(*[st.floats(0.5, 40)] * 3), min_size=1, max_size=3))
def test_a_loop_over_cells_gives_the_same(space, stride, shapes):
    got = anchors_of_level(space, stride, torch.tensor(shapes, dtype=torch.float64))
    row = 0
    for i in range(space[0]):
        for j in range(space[1]):
            for k in range(space[2]):
                for shape in shapes:
                    middle = [(n + 0.5) * s for n, s in zip((i, j, k), stride, strict=True)]
                    low = [m - a / 2 for m, a in zip(middle, shape, strict=True)]
                    high = [m + a / 2 for m, a in zip(middle, shape, strict=True)]
                    assert got[row].tolist() == pytest.approx([*low, *high], abs=1e-12)
                    row += 1
    assert row == len(got)


@pytest.mark.parametrize("side", [3, 5, 7, 9, 11])
def test_an_odd_cube_is_met_exactly_where_monai_rounds(side):
    """Objects of 3 to 11 voxels: our anchors have IoU 1.0 with them, MONAI's at most 0.42 to 0.77."""
    cubes = torch.tensor([[i, i, i, i + side, i + side, i + side] for i in range(2, 9)]).float()
    mine = anchors_of_level((20, 20, 20), (1, 1, 1), [(side, side, side)])
    assert (iou_matrix(cubes, mine).amax(1) == 1.0).all()
    shape = AnchorGeneratorWithAnchorShape(feature_map_scales=(1,), base_anchor_shapes=((side,) * 3,))
    images, maps = torch.zeros(1, 1, 20, 20, 20), [torch.zeros(1, 1, 20, 20, 20)]
    theirs = shape(images, maps)[0]
    best = {3: 27 / 64, 5: 64 / 125, 7: 343 / 512, 9: 512 / 729, 11: 1331 / 1728}[side]
    assert iou_matrix(cubes, theirs).amax().item() == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("side", range(3, 12))
def test_small_cubes_have_an_exact_anchor_at_stride_one_or_two(side):
    """Odd cubes lie around a voxel's centre, even ones around an edge: strides 1 and 2 have both middles."""
    stride = 1 if side % 2 else 2
    anchors = anchors_of_level((12, 12, 12), (stride,) * 3, [(side,) * 3])
    low = 6 - side // 2 + (0 if side % 2 else 1)
    cube = torch.tensor([[low] * 3 + [low + side] * 3]).float()
    assert iou_matrix(cube, anchors).amax().item() == 1.0


def test_a_grid_covers_the_image_evenly_along_each_axis():
    anchors = anchors_of_level((4, 8, 16), (8, 4, 2), [(5.0, 5.0, 5.0)])
    low, high = centres(anchors).amin(0), centres(anchors).amax(0)
    assert low.tolist() == [4, 2, 1]
    assert (32 - high).tolist() == [4, 2, 1]
    assert (sizes(anchors) == 5).all()


def test_dtype_follows_the_sizes_and_nothing_may_be_asked_for():
    assert anchors_of_level((2, 2, 2), (1, 1, 1), torch.ones(2, 3, dtype=torch.float64)).dtype == torch.float64
    assert anchors_of_level((2, 2, 2), (1, 1, 1), [[1, 1, 1]]).dtype == torch.float32
    assert anchors_of_level((0, 2, 2), (1, 1, 1), [[1, 1, 1]]).shape == (0, 6)


def test_sizes_that_are_not_rows_of_three_are_refused():
    with pytest.raises(ValueError, match=r"got \(3,\)"):
        anchors_of_level((1, 1, 1), (1, 1, 1), [1.0, 2.0, 3.0])
