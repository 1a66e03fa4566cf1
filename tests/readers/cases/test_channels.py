from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import GeometryError, InputError
from medseg.geometry import Grid, reorientation, same_space
from medseg.readers.cases import Case, find_cases, load_case, load_label
from medseg.readers.cases import channels as channels_module
from medseg.readers.cases.space import overlap, turn_onto
from medseg.volume import Source, Volume

TWO = ("FLAIR", "T1")


def affine(spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), turn=0.0):
    c, s = np.cos(turn), np.sin(turn)
    out = np.eye(4)
    out[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(spacing)
    out[:3, 3] = origin
    return out


def save(path, array, place):
    nib.save(nib.Nifti1Image(np.asarray(array), place), path)
    return path


def scene(world):
    """A smooth intensity that is linear in mm, so that linear interpolation is exact."""
    return 3 * world[..., 0] - 2 * world[..., 1] + world[..., 2] + 500


def linear(shape, place):
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return scene(Grid(shape, place).to_world(index)).astype(np.float32)


def two(tmp_path, second, place, first=(12, 13, 14)):
    a = save(tmp_path / "a_0000.nii.gz", linear(first, affine()), affine())
    b = save(tmp_path / "a_0001.nii.gz", second, place)
    return Case("a", (a, b))


def test_channels_on_one_grid_are_stacked_as_they_are(tmp_path):
    second = np.random.default_rng(0).integers(0, 900, (12, 13, 14)).astype(np.int16)
    volume = load_case(two(tmp_path, second, affine()), TWO)
    assert volume.array.shape == (2, 12, 13, 14)
    np.testing.assert_array_equal(volume.array[1], second)
    np.testing.assert_array_equal(volume.array[0], linear((12, 13, 14), affine()))
    assert volume.source.channels == TWO
    assert volume.source.decisions == ()
    assert [f.name for f in volume.source.files] == ["a_0000.nii.gz", "a_0001.nii.gz"]


def test_integers_of_one_type_stay_integers(tmp_path):
    files = [save(tmp_path / f"{n}.nii", np.full((3, 4, 5), n, np.int16), affine()) for n in (1, 2)]
    assert load_case(Case("a", tuple(files)), TWO).array.dtype == np.int16


@pytest.mark.parametrize("axcodes", ["LPS", "SAR", "IPL"])
def test_another_axis_order_of_one_space_is_turned_exactly(tmp_path, axcodes):
    second = np.random.default_rng(0).normal(size=(12, 13, 14)).astype(np.float32)
    turned = Volume(second, affine()).reoriented(axcodes)
    volume = load_case(two(tmp_path, turned.array, turned.affine), TWO)
    np.testing.assert_array_equal(volume.array[1], second)
    (decision,) = volume.source.decisions
    assert (decision.code, decision.warning) == ("MS-G206", False)
    assert f"T1: axes turned from {axcodes}" in decision.message


def test_another_grid_is_resampled_to_the_first_channel_and_recorded(tmp_path):
    place = affine((0.7, 0.8, 2.0), (-6, -6, -6), turn=0.3)
    volume = load_case(two(tmp_path, linear((60, 60, 20), place), place), TWO)
    np.testing.assert_allclose(volume.array[1], linear((12, 13, 14), affine()), atol=2e-3)
    (decision,) = volume.source.decisions
    assert decision.code == "MS-G201"
    assert "channel T1 resampled from 60 x 60 x 20 voxels of 0.7 x 0.8 x 2 mm" in decision.message
    assert "grid of FLAIR, 12 x 13 x 14 voxels of 1 x 1 x 1 mm" in decision.message


def test_little_overlap_warns_in_percent_and_none_is_refused(tmp_path):
    place = affine(origin=(6, 0, 0))
    volume = load_case(two(tmp_path, linear((12, 13, 14), place), place), TWO)
    codes = {d.code: d for d in volume.source.decisions}
    assert set(codes) == {"MS-G201", "MS-G203"}
    assert "covers 50 % of FLAIR (centres 6.0 mm apart)" in codes["MS-G203"].message
    np.testing.assert_array_equal(volume.array[1, 6:], linear((12, 13, 14), affine())[6:])
    assert (volume.array[1, :6] == linear((12, 13, 14), place).min()).all()
    far = affine(origin=(90, 0, 0))
    with pytest.raises(GeometryError, match=r"MS-G101.*a_0001.*centres are 90\.0 mm apart"):
        load_case(two(tmp_path, linear((12, 13, 14), far), far), TWO)


def test_different_frames_of_reference_warn_in_mm(monkeypatch, tmp_path):
    def read(path, options):
        n = int(path.name)
        return Volume(np.zeros((4, 4, 4), np.int16), affine(origin=(n, 0, 0)), Source(frame_of_reference=f"1.2.{n}"))

    monkeypatch.setattr(channels_module, "read", read)
    volume = load_case(Case("a", (tmp_path / "0", tmp_path / "1")), TWO)
    messages = {d.code: d.message for d in volume.source.decisions}
    assert "different frames of reference (centres 1.0 mm apart, 75 % overlap)" in messages["MS-G202"]


def test_decisions_of_a_channel_name_it(tmp_path):
    case = two(tmp_path, np.zeros((12, 13, 14)), affine())
    (decision,) = [d for d in load_case(case, TWO).source.decisions if d.code == "MS-F203"]
    assert decision.message.startswith("channel T1: stored as float64")


def test_a_4d_file_holds_the_channels(tmp_path):
    array = np.random.default_rng(0).normal(size=(5, 6, 7, 2)).astype(np.float32)
    (case,) = find_cases(save(tmp_path / "a.nii.gz", array, affine()), channels=TWO)
    np.testing.assert_array_equal(load_case(case, TWO).array, np.moveaxis(array, -1, 0))
    with pytest.raises(InputError, match=r"MS-C107.*wants 3 channels: A, B, C; this file holds 2"):
        load_case(case, ("A", "B", "C"))
    with pytest.raises(InputError, match=r"MS-C107.*wants 1 channel: CT; this file holds 2"):
        load_case(case, ("CT",))
    several = Case("a", (case.images[0], case.images[0]))
    with pytest.raises(InputError, match=r"MS-C107.*one channel is wanted from this file, it holds 2"):
        load_case(several, TWO)


def test_one_image_where_several_are_wanted(tmp_path):
    (case,) = find_cases(save(tmp_path / "a_0000.nii.gz", np.ones((4, 4, 4), np.int16), affine()), channels=TWO)
    with pytest.raises(InputError, match=r"MS-C107.*wants 2 channels: FLAIR, T1; this file holds 1"):
        load_case(case, TWO)


@given(
    st.permutations(range(3)),
    st.tuples(*[st.booleans()] * 3),
    st.tuples(*[st.floats(0.3, 4)] * 3),
    st.floats(-3, 3),
)
def test_turning_finds_every_permutation_and_flip(order, flips, spacing, turn):
    grid = Grid((5, 6, 7), affine(spacing, (1, 2, 3), turn))
    moved = Volume(np.arange(210).reshape(5, 6, 7), grid.affine)
    for axis, flip in enumerate(flips):
        if flip:
            end = moved.affine @ np.diag([1, 1, 1, 1])
            end[:3, 3] += end[:3, axis] * (moved.array.shape[axis] - 1)
            end[:3, axis] *= -1
            moved = Volume(np.flip(moved.array, axis), end)
    moved = Volume(moved.array.transpose(order), moved.affine[:, [*order, 3]])
    found = turn_onto(moved.grid, grid)
    assert found is not None
    assert same_space(found.apply_grid(moved.grid), grid)
    np.testing.assert_array_equal(found.apply(moved.array), np.arange(210).reshape(5, 6, 7))


def test_turning_refuses_other_spacing_and_oblique_axes():
    grid = Grid((5, 6, 7), affine())
    assert turn_onto(Grid((5, 6, 7), affine((1, 1, 1.1))), grid) is None
    assert turn_onto(Grid((5, 6, 7), affine(turn=0.1)), grid) is None
    assert reorientation(grid).order == turn_onto(grid, grid).order


def test_overlap_of_shifted_boxes():
    grid = Grid((10, 10, 10), affine())
    assert overlap(grid, grid) == 1
    assert overlap(grid, Grid((10, 10, 10), affine(origin=(5, 0, 0)))) == pytest.approx(0.5)
    assert overlap(grid, Grid((10, 10, 10), affine(origin=(10, 0, 0)))) == 0
    assert overlap(grid, Grid((40, 40, 40), affine((0.5, 0.5, 0.5), (-0.25, -0.25, -0.25)))) == 1


def test_flair_and_t1_of_real_patients_with_their_lesions(data):
    cases = find_cases(data("open_ms") / "mni", channels=TWO, need_labels=True)
    assert [c.name for c in cases] == ["patient07", "patient26"]
    volume = load_case(cases[0], TWO)
    assert volume.array.shape == (2, 182, 218, 182)
    for channel, name in zip(volume.array, TWO, strict=True):
        expected = nib.load(data("open_ms") / "mni" / "patient07" / f"{name}.nii.gz")
        np.testing.assert_array_equal(channel, np.asarray(expected.dataobj, np.float32))
        np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-6)
    label = load_label(cases[0], volume)
    assert same_space(label.grid, volume.grid)
    assert np.unique(label.array).tolist() == [0, 1]
    # Lesions are bright on FLAIR.
    inside, brain = volume.array[0][label.array > 0], volume.array[0][volume.array[0] > 0]
    assert np.median(inside) > np.median(brain)
