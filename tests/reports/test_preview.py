from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.geometry import Grid, reorientation
from medseg.labels import LabelTable
from medseg.reports.planes import CT_WINDOW, PLANES, centre, slice_of, window_of
from medseg.reports.preview import preview_png
from medseg.volume import Source, Volume

TABLE = LabelTable.from_json(
    [
        {"value": 1, "name": "left thing", "colour": [255, 0, 0]},
        {"value": 2, "name": "right thing", "colour": [0, 255, 0]},
    ]
)
AXIAL, CORONAL, SAGITTAL = PLANES


def pixels(png: bytes) -> np.ndarray:
    return np.round(matplotlib.image.imread(io.BytesIO(png))[..., :3] * 255).astype(int)


def where(picture: np.ndarray, colour) -> tuple[float, float]:
    """Mean (row, column) of nearly pure pixels of a colour, in the axial panel without the legend below."""
    height, width = picture.shape[:2]
    panel = picture[: int(height * 0.86), : width // 3]
    rows, columns = np.nonzero((np.abs(panel - np.array(colour)) < 60).all(axis=-1))
    assert len(rows) > 10
    return rows.mean(), columns.mean()


def scene(shape=(20, 24, 16)):
    """RAS volume with label 1 at the patient's left and front, label 2 at the right and back."""
    labels = np.zeros(shape, np.uint8)
    labels[3:7, 16:20, 6:10] = 1
    labels[13:17, 4:8, 6:10] = 2
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    affine = np.diag([1.0, 1.0, 1.5, 1.0])
    return Volume(image, affine), Volume(labels, affine)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "ASL", "SRP"])
def test_left_is_on_the_right_of_the_picture_whatever_the_axis_order(axcodes):
    image, labels = (v.reoriented(axcodes) for v in scene())
    picture = pixels(preview_png(image, labels, TABLE))
    left, right = where(picture, (255, 0, 0)), where(picture, (0, 255, 0))
    assert left[1] > right[1], "radiological convention: the patient's left on the right"
    assert left[0] < right[0], "anterior is up"


def test_the_picture_is_the_same_for_every_axis_order():
    image, labels = scene()
    pictures = {preview_png(image.reoriented(a), labels.reoriented(a), TABLE, title="x") for a in ("RAS", "LPI", "SAL")}
    assert len(pictures) == 1


def test_slices_as_shown():
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)  # RAS: i to the right, j to the front, k up
    assert np.array_equal(slice_of(array, AXIAL, 1), [[array[1, j, 1], array[0, j, 1]] for j in range(3)])
    assert np.array_equal(slice_of(array, CORONAL, 2), [[array[1, 2, k], array[0, 2, k]] for k in range(4)])
    assert np.array_equal(slice_of(array, SAGITTAL, 0), [[array[0, j, k] for j in (2, 1, 0)] for k in range(4)])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 7)), min_size=1, max_size=12))
def test_every_slice_shown_holds_foreground(points):
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[tuple(np.array(points).T)] = 1
    i, j, k = centre(labels)
    assert labels[i].any()
    assert labels[:, j].any()
    assert labels[:, :, k].any()


def test_an_empty_map_and_a_constant_image_still_make_a_picture():
    volume = Volume(np.zeros((5, 6, 7), np.int16), np.eye(4))
    assert centre(volume.array) == (2, 3, 3)
    assert pixels(preview_png(volume, volume, TABLE)).shape[2] == 3


def test_a_warning_stands_out_in_red():
    image, labels = scene()
    plain, marked = (
        pixels(preview_png(image, labels, LabelTable(()), warning=w)) for w in ("", "OUTSIDE TRAINING DOMAIN")
    )
    band = slice(0, int(plain.shape[0] * 0.06))
    red = (np.abs(marked[band] - np.array([255, 85, 85])) < 30).all(axis=-1).sum()
    assert red > 200
    assert (plain[band] == 0).all()


def test_text_is_shown_as_it_is_written():
    image, labels = scene()
    preview_png(image, labels, TABLE, title="50 $ and $x^ {", legend=["a $_{", "b"])  # mathtext would raise


def test_channels_show_the_first():
    image, labels = scene()
    both = Volume(np.stack([image.array, image.array * 0]), image.affine)
    assert preview_png(both, labels, TABLE) == preview_png(image, labels, TABLE)


def test_windows():
    assert window_of(np.zeros((2, 2, 2)), "CT") == CT_WINDOW
    ramp = np.linspace(0, 1000, 8000).reshape(20, 20, 20)
    low, high = window_of(ramp, "MR")
    assert 5 < low < 20
    assert 990 < high < 1000
    assert window_of(np.full((3, 3, 3), np.nan), None) == (0.0, 1.0)


def test_planes_name_their_edges_by_the_affine():
    grid = Grid((4, 5, 6), np.diag([-1.0, 1.0, 1.0, 1.0]))  # LAS
    assert reorientation(grid, "RAS").flips == (True, False, False)
    assert AXIAL.edges[:2] == ("R", "L")
    assert {letter for plane in PLANES for letter in plane.edges} == set("RLAPSI")


def test_ct_is_shown_in_a_soft_tissue_window():
    image, labels = scene()
    ct = Volume((image.array * 2000 - 1000).astype(np.int16), image.affine, Source(modality="CT"))
    assert preview_png(ct, labels, TABLE) != preview_png(Volume(ct.array, ct.affine), labels, TABLE)
