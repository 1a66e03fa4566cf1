import numpy as np
import pytest

from medseg.geometry import Grid
from medseg.resample.mapping import align, match_axes
from tests.resample.cases import OBLIQUE, SOURCE, TURNED


def line(n, spacing_mm, origin_mm=0.0):
    affine = np.diag([spacing_mm, 1.0, 1.0, 1.0])
    affine[0, 3] = origin_mm
    return Grid((n, 1, 1), affine)


def test_the_worked_example_of_the_docstring():
    source, target = line(4, 1.0), line(9, 0.5, -0.75)
    view = align(np.zeros((4, 1, 1)), source, target, match_axes(source, target))
    axis = view.axes[view.order.index(0)]
    assert axis.start == 1
    np.testing.assert_allclose(axis.x, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    np.testing.assert_allclose(axis.weight[:3], [0, 0.25, 0.75])
    assert axis.lower.tolist() == [0, 0, 0, 1, 1, 2, 2, 3]


def test_axes_are_matched_or_found_oblique():
    assert match_axes(SOURCE, SOURCE) == (0, 1, 2)
    assert match_axes(SOURCE, TURNED) == (1, 0, 2)
    assert match_axes(SOURCE, OBLIQUE) is None


@pytest.mark.parametrize(("drift_mm", "aligned"), [(0.0001, True), (0.05, False)])
def test_a_slant_counts_by_where_it_ends_not_by_its_angle(drift_mm, aligned):
    affine = np.eye(4)
    affine[0, 1] = drift_mm / 199  # 200 voxels on, the second axis has strayed by drift_mm
    assert (match_axes(Grid((200, 200, 200), np.eye(4)), Grid((200, 200, 200), affine)) is not None) == aligned


def test_float32_affines_still_meet_on_whole_voxels():
    affine = np.diag([0.7421875, 0.7, 0.3, 1.0])
    affine[:3, 3] = [-189.63, 77.1, -1203.9]
    rounded = affine.astype(np.float32).astype(np.float64)
    source, target = Grid((512, 400, 300), affine), Grid((512, 400, 300), rounded)
    view = align(np.empty((512, 400, 300), np.uint8), source, target, match_axes(source, target))
    assert all(axis.whole and len(axis.x) == n for axis, n in zip(view.axes, view.array.shape, strict=True))


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda a: a[::-1, :, ::-1][::-1, :, ::-1]])
def test_memory_is_read_in_its_own_order_without_a_copy(layout):
    array = layout(np.arange(20 * 22 * 9).reshape(20, 22, 9))
    view = align(array, SOURCE, TURNED, match_axes(SOURCE, TURNED))
    assert view.array.flags.c_contiguous
    assert np.shares_memory(view.array, array)


def test_a_flipped_view_is_read_from_its_other_end_without_a_copy():
    array = np.arange(20 * 22 * 9).reshape(20, 22, 9)
    view = align(array[:, ::-1], SOURCE, SOURCE, (0, 1, 2))
    assert np.shares_memory(view.array, array)
    assert view.axes[1].x.tolist() == list(range(21, -1, -1))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"the array has shape \(3, 3, 3\), its grid \(20, 22, 9\)"):
        align(np.zeros((3, 3, 3)), SOURCE, TURNED, (1, 0, 2))
