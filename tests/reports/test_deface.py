from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.geometry import Grid
from medseg.readers.open import read
from medseg.reports.deface import deface, looks_like_head
from medseg.volume import Volume


def head(axcodes: str = "RAS", cut_mm: float = 0.0, spacing: float = 2.0) -> Volume:
    """A head of 150 x 190 x 220 mm with a nose, in air; `cut_mm` of its top are outside the image."""
    shape = (110, 130, 140)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-110, -130, -160]
    x, y, z = np.moveaxis(Grid(shape, affine).to_world(np.moveaxis(np.indices(shape), 0, -1)), -1, 0)
    skull = (x / 75) ** 2 + (y / 95) ** 2 + ((z - 10) / 95) ** 2 < 1
    jaw = (x / 55) ** 2 + ((y - 25) / 70) ** 2 + ((z + 65) / 70) ** 2 < 1
    nose = (x / 12) ** 2 + ((y - 95) / 22) ** 2 + ((z + 20) / 22) ** 2 < 1
    neck = ((x / 55) ** 2 + ((y + 15) / 55) ** 2 < 1) & (z < -60)
    array = (800.0 * (skull | jaw | nose | neck)).astype(np.float32)
    array += np.random.default_rng(0).random(shape, dtype=np.float32) * 20
    volume = Volume(array, affine)
    if cut_mm:
        stop = int((105 - cut_mm - affine[2, 3]) / spacing)
        volume = Volume(array[:, :, :stop], affine)
    return volume.reoriented(axcodes)


def value_at(volume: Volume, *world: float) -> float:
    i, j, k = np.rint(volume.grid.to_index(np.array(world))).astype(int)
    return float(volume.array[i, j, k])


@pytest.mark.parametrize("axcodes", ["RAS", "LPI", "ASL", "SRP"])
def test_the_face_goes_and_the_head_stays_whatever_the_axis_order(axcodes):
    image = head(axcodes)
    assert looks_like_head(image)
    masked = deface(image)
    assert np.array_equal(masked.affine, image.affine)
    assert masked.array.dtype == image.array.dtype
    for place in ((0, 112, -20), (0, 90, -50), (20, 85, -10), (0, 80, -90)):
        assert value_at(image, *place) > 700, f"the phantom has a face at {place}"
        assert value_at(masked, *place) < 30, f"nose, mouth, eye and chin: {place}"
    for place in ((0, 0, 10), (0, 90, 40), (60, 0, 0), (0, -90, 10), (0, -15, -120)):
        assert value_at(masked, *place) > 700, f"brain, forehead, side, back and neck: {place}"
    changed = (masked.array != image.array) & (image.array > 700)
    assert 0.03 < changed.sum() / (image.array > 700).sum() < 0.25


def test_what_is_left_has_no_relief():
    """The cut is a plane: one depth for all of a row from left to right."""
    masked = deface(head()).array > 400
    front = np.where(masked.any(axis=1), masked.shape[1] - 1 - np.argmax(masked[:, ::-1], axis=1), 0)
    level = int((-20 + 160) / 2)  # of the nose
    row = front[40:70, level]
    assert row.max() - row.min() <= 1


@pytest.mark.parametrize("cut_mm", [20, 50, 90])
def test_a_head_cut_off_by_the_image_loses_its_face_too(cut_mm):
    image = head(cut_mm=cut_mm)
    assert looks_like_head(image)
    masked = deface(image)
    assert value_at(image, 0, 112, -20) > 700
    assert value_at(masked, 0, 112, -20) < 30
    assert value_at(masked, 0, 90, -50) < 30


def test_segmented_voxels_are_never_masked():
    image = head()
    keep = np.zeros(image.array.shape, np.uint8)
    keep[50:60, 110:118, 40:75] = 4  # through the middle of the face
    masked = deface(image, keep)
    kept = keep > 0
    assert np.array_equal(masked.array[kept], image.array[kept])
    assert (deface(image).array[kept] != image.array[kept]).any(), "they would have been"
    wider = ndimage.binary_dilation(kept)
    assert np.array_equal(masked.array[wider], image.array[wider]), "their surroundings can be judged"


def test_all_channels_are_masked():
    image = head()
    both = Volume(np.stack([image.array, image.array + 5]).astype(np.float32), image.affine)
    masked = deface(both)
    for n in range(2):
        assert value_at(Volume(masked.array[n], masked.affine), 0, 112, -20) < 30


def test_what_is_no_head_is_given_back():
    trunk = np.zeros((130, 90, 90), np.int16)
    trunk[10:120, 10:80] = 500
    image = Volume(trunk, np.diag([3.0, 3.0, 3.0, 1.0]))
    assert not looks_like_head(image)
    assert deface(image) is image
    small = Volume(np.ones((35, 51, 35), np.float32), np.eye(4))
    assert not looks_like_head(small)
    assert not looks_like_head(Volume(np.zeros((80, 80, 80), np.uint8), np.diag([3.0, 3, 3, 1])))


def test_the_mask_to_keep_lies_on_the_image():
    with pytest.raises(ValueError, match="shape"):
        deface(head(), np.zeros((3, 3, 3)))


def test_real_heads(data):
    for name in ("patient07/T1.nii.gz", "patient26/FLAIR.nii.gz"):
        assert looks_like_head(read(data("open_ms") / "mni" / name))
    quirks = data("nifti_quirks")
    for path in sorted((quirks / "nifti_space_48").glob("*.nii.gz")):
        assert looks_like_head(read(path)), path.name
    ct = read(data("dicom") / "dev" / "ct_head_64x64x93_slicer")  # cut off above the eyes, stored without intercept
    assert looks_like_head(ct)
    before, after = ct.reoriented("RAS").array, deface(ct).reoriented("RAS").array
    front = slice(int(before.shape[1] * 0.75), None)
    bright = np.percentile(before, 60)
    chin = (before[:, front, :60] > bright).sum()
    assert chin > 500
    assert (after[:, front, :60] > bright).sum() < 0.05 * chin


def test_real_bodies_are_no_heads(data):
    assert not looks_like_head(read(data("totalseg") / "example_ct.nii.gz"))
    assert not looks_like_head(read(data("totalseg") / "example_ct_sm.nii.gz"))
    for path in sorted((data("hippocampus") / "imagesTr").glob("*.nii.gz"))[:20]:
        assert not looks_like_head(read(path)), path.name
    for path in sorted((data("vertebrae_mri")).rglob("images/*.nii.gz"))[:8]:
        assert not looks_like_head(read(path)), path.name
