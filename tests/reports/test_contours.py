import io
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest

from medseg.reports.contours import LIMIT_BYTES, PREDICTION, REFERENCE, disagreement, views
from medseg.volume import Volume
from tests.reports.demo_report import phantom

TINT = (68, 119, 170)


def pixels(png: bytes) -> np.ndarray:
    return np.round(matplotlib.image.imread(io.BytesIO(png))[..., :3] * 255).astype(int)


def where(png: bytes, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of one colour."""
    rgb = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)])
    return np.nonzero((np.abs(pixels(png) - rgb) < 12).all(axis=-1))


def middle(png: bytes, colour: str) -> tuple[float, float]:
    rows, columns = where(png, colour)
    assert len(rows) > 50
    return rows.mean(), columns.mean()


@pytest.mark.parametrize("image", [True, False], ids=["image", "plain"])
@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "ASL", "IRP"])
def test_left_is_on_the_right_of_the_picture_whatever_the_axis_order(axcodes, image):
    _, (axial, coronal, sagittal) = views(phantom(image, axcodes), TINT)
    assert [v.plane for v in (axial, coronal, sagittal)] == ["axial", "coronal", "sagittal"]
    (ref_row, ref_column), (pred_row, pred_column) = middle(axial.png, REFERENCE), middle(axial.png, PREDICTION)
    assert ref_column > pred_column + 30, "the reference lies at the patient's left: right in the picture"
    assert ref_row < pred_row - 10, "and further to the front: up"
    assert middle(coronal.png, REFERENCE)[1] > middle(coronal.png, PREDICTION)[1] + 30


def test_the_sagittal_slice_has_the_front_on_the_left():
    case = phantom()
    pred = np.zeros_like(case.pred)
    pred[6:14, 14:22, 9:15] = 2  # further back and up
    _, (_, _, sagittal) = views(replace(case, pred=pred), TINT)
    (ref_row, ref_column), (pred_row, pred_column) = (middle(sagittal.png, c) for c in (REFERENCE, PREDICTION))
    assert ref_column < pred_column
    assert ref_row > pred_row


def test_pictures_do_not_depend_on_the_order_of_the_axes():
    plain = [v.png for v in views(phantom(), TINT)[1]]
    assert [v.png for v in views(phantom(axcodes="LIP"), TINT)[1]] == plain


def test_the_slices_meet_in_the_patient():
    case = phantom()
    affine = case.affine.copy()
    affine[:3, 3] = (100, -50, 7)
    point, _ = views(replace(case, affine=affine), TINT)
    i, j, k = np.linalg.solve(affine, [*point, 1])[:3].round().astype(int)
    assert case.pred[i, j, k] != case.ref[i, j, k]


def test_a_missed_structure_shows_the_reference_alone_and_says_so():
    _, slices = views(phantom(empty=True), TINT)
    for view in slices:
        assert len(where(view.png, REFERENCE)[0]) > 50
        assert len(where(view.png, PREDICTION)[0]) == 0
        assert view.alt.endswith("outlines of the reference")
    assert "reference and the prediction" in views(phantom(), TINT)[1][0].alt


def test_nothing_at_all_still_makes_pictures():
    case = phantom(empty=True)
    _, slices = views(replace(case, ref=case.pred), TINT)
    assert all(pixels(v.png).shape[:2] == (480, 480) for v in slices)
    assert "neither" in slices[0].alt


def test_structures_are_unions_of_values():
    case = phantom(image=False)
    pred, ref = case.pred.copy(), case.ref.copy()
    pred[pred == 2] = np.where(np.indices(pred.shape)[0] % 2, 5, 2)[pred == 2]
    both = views(replace(case, pred=pred, ref=ref, values=(2, 5)), TINT)[1]
    assert [v.png for v in both] == [v.png for v in views(case, TINT)[1]]


def test_the_place_is_where_most_differs_not_where_most_surface_is():
    ref = np.zeros((40, 40, 40), bool)
    ref[5:25, 5:25, 5:25] = True
    pred = ref.copy()
    pred[5, 5:25, 5:25] = False  # a sheet of 400 voxels
    pred[28:36, 30:38, 30:38] = True  # a lump of 512
    i, j, k = disagreement(pred, ref, (1.0, 1.0, 1.0))
    assert (pred & ~ref)[i, j, k]
    pred[20, 2, 2] = True  # a stray voxel changes nothing
    assert disagreement(pred, ref, (1.0, 1.0, 1.0)) == (i, j, k)


def test_where_nothing_differs_it_is_the_middle():
    mask = np.zeros((9, 9, 9), bool)
    mask[2:7, 3:8, 1:4] = True
    assert disagreement(mask, mask, (1.0, 1.0, 1.0)) == (4, 5, 2)


def test_the_reach_is_in_millimetres():
    """Thick slices: 5 mm are two voxels, so a lump in the plane outweighs one along the thin direction."""
    pred, ref = np.zeros((2, 60, 40, 40), bool)
    pred[:, 2, 2] = True  # a line of 60 voxels of 0.2 mm
    pred[30:34, 20:30, 20:30] = True
    assert disagreement(pred, ref, (0.2, 1.0, 5.0))[1] >= 20


def test_noise_is_drawn_with_fewer_pixels_rather_than_a_large_file():
    rng = np.random.default_rng(0)
    ref = np.zeros((300, 300, 20), np.uint8)
    ref[20:280, 20:280, 5:15] = 1
    pred = np.roll(ref, 9, 0)
    grey = rng.normal(size=ref.shape).astype(np.float32)
    case = replace(phantom(), pred=pred, ref=ref, values=(1,), affine=np.diag([0.7, 0.7, 3, 1]), image=grey)
    _, slices = views(case, TINT)
    assert all(len(v.png) <= LIMIT_BYTES for v in slices)


def test_maps_of_two_grids_are_refused():
    case = phantom()
    with pytest.raises(ValueError, match=r"one grid, got shapes \(40, 36, 24\), \(39, 36, 24\)"):
        views(replace(case, ref=case.ref[1:]), TINT)


def test_real_labels(data):
    from medseg.readers.open import read

    folder = data("hippocampus")
    volume = read(folder / "labelsTr" / "hippocampus_001.nii.gz")
    image = read(folder / "imagesTr" / "hippocampus_001.nii.gz")
    pred = np.roll(volume.array, 3, 0)
    case = replace(phantom(), pred=pred, ref=volume.array, affine=volume.affine, values=(1,), image=image.array)
    assert isinstance(volume, Volume)
    for view in views(case, TINT)[1]:
        assert len(where(view.png, REFERENCE)[0]) > 50
        assert len(where(view.png, PREDICTION)[0]) > 50
        assert len(view.png) < LIMIT_BYTES
