from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import medseg
from medseg.errors import GeometryError
from medseg.geometry import Grid, flip_ras_lps, reorientation
from medseg.writers.dicom import sources_of
from medseg.writers.dicom.frames import frame_corners, frame_grid, origins
from medseg.writers.dicom.sources import SourceFrame, Sources

CODES = ["RAS", "LPI", "ASR", "SAL", "PIL", "IRP", "LAS", "SRA"]


def sources(affine, shape, number=None):
    """Sources on an LPS grid (columns, rows, slices)."""
    step = np.linalg.norm(affine[:3, :3], axis=0)
    axes = (affine[:3, :2] / step[:2]).T
    size = shape[1], shape[0]
    places = [affine[:3, 3] + k * affine[:3, 2] for k in range(shape[2])]
    return Sources(
        (), tuple(SourceFrame(k, number, p, axes, (step[1], step[0]), size) for k, p in enumerate(places)), {}
    )


def test_the_worked_example(lab):
    affine = lab.affine_lps(origin=(1.0, 2.0, 3.0))
    grid = Grid((11, 14, 7), flip_ras_lps(affine))
    frames = frame_grid(grid, sources(affine, grid.shape))
    assert frames.shape == (14, 11)
    assert frames.spacing == pytest.approx((0.9, 0.7))
    np.testing.assert_allclose(frames.axes, [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(frames.positions[2], [1, 2, 8])
    array = np.arange(11 * 14 * 7).reshape(11, 14, 7)
    np.testing.assert_array_equal(frames.frames(array)[2], array[:, :, 2].T)


@given(seed=st.integers(0, 10_000), code=st.sampled_from(CODES), known=st.booleans())
def test_every_voxel_keeps_its_place_whatever_the_axes(seed, code, known):
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation = rotation if np.linalg.det(rotation) > 0 else rotation[:, ::-1]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation * rng.uniform(0.4, 5, 3), rng.uniform(-200, 200, 3)
    shape = tuple(int(n) for n in rng.integers(2, 7, 3))
    whole = Grid(shape, flip_ras_lps(affine))
    turned = reorientation(whole, code)
    array = turned.apply(np.arange(np.prod(shape)).reshape(shape))
    given_sources = sources(affine, shape) if known else Sources((), (), {})
    frames = frame_grid(turned.apply_grid(whole), given_sources)
    stack = frames.frames(array)
    for k, plane in enumerate(stack):
        for row, col in ((0, 0), (frames.shape[0] - 1, 0), (0, frames.shape[1] - 1)):
            lps = (
                frames.positions[k]
                + frames.axes[0] * frames.spacing[1] * col
                + frames.axes[1] * frames.spacing[0] * row
            )
            index = np.unravel_index(plane[row, col], shape)
            np.testing.assert_allclose(lps, affine[:3, :3] @ index + affine[:3, 3], atol=1e-9)
    assert (np.diff(frames.positions @ np.cross(*frames.axes)) > 0).all()  # ascending, as dcmqi stacks maps
    if known:
        np.testing.assert_allclose(frames.axes, (affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)).T)
        assert [[f.instance for f in found] for found in origins(frames, given_sources)] == [
            [k] for k in range(shape[2])
        ]


def test_frames_of_another_size_spacing_or_direction_show_nothing_of_a_source(lab):
    affine = lab.affine_lps(3)
    known = sources(affine, (6, 5, 4))
    for change in (np.diag([1, 1.01, 1, 1]), np.diag([-1, 1, -1, 1])):
        grid = Grid((6, 5, 4), flip_ras_lps(affine @ change))
        frames = frame_grid(grid, Sources((), (), {}))
        assert not any(origins(frames, known))
    assert not any(origins(frame_grid(Grid((7, 5, 4), flip_ras_lps(affine)), known), known))


def test_interpolated_slices_have_no_origin_and_the_others_keep_theirs(lab):
    affine = lab.affine_lps(3)
    known = sources(affine, (6, 5, 4))
    known = Sources((), (*known.frames[:2], known.frames[3]), {})
    frames = frame_grid(Grid((6, 5, 4), flip_ras_lps(affine)), known)
    assert [len(found) for found in origins(frames, known)] == [1, 1, 0, 1]


def test_two_sources_at_one_place_are_both_named(lab):
    affine = lab.affine_lps(3)
    known = sources(affine, (6, 5, 4))
    both = Sources((), (*known.frames, *known.frames), {})
    assert [len(found) for found in origins(frame_grid(Grid((6, 5, 4), flip_ras_lps(affine)), both), both)] == [2] * 4


def test_a_sheared_grid_is_refused(lab):
    affine = lab.affine_lps()
    affine[1, 2] += 0.2
    with pytest.raises(GeometryError, match=r"MS-D405.*lean by 4\.57 degrees"):
        frame_grid(Grid((6, 5, 4), flip_ras_lps(affine)), Sources((), (), {}))


def test_a_stack_that_leans_as_little_as_the_reader_lets_pass_is_written_where_it_lies(tmp_path, lab):
    affine = lab.affine_lps(4)
    affine[:3, 2] += affine[:3, 1] / np.linalg.norm(affine[:3, 1]) * 2.5 * np.tan(np.radians(0.045))
    image = medseg.read(lab.series(tmp_path / "in", affine))
    assert image.source.details["geometry"] == "regular"
    frames = frame_grid(image.grid, sources_of(image))
    np.testing.assert_allclose(frames.positions, [affine[:3, 3] + k * affine[:3, 2] for k in range(7)], atol=1e-6)


def test_corners_of_a_frame_by_hand():
    corners = frame_corners(np.array([1.0, 2.0, 3.0]), np.array([[1.0, 0, 0], [0, 0, -1.0]]), (0.5, 2.0), (5, 4))
    np.testing.assert_allclose(corners, [[1, 2, 3], [7, 2, 3], [1, 2, 1], [7, 2, 1]])
