"""Reading and writing NIfTI, 512 x 512 x 300, and DICOM series (io_dicom.py), against MONAI, SimpleITK and nibabel.

Every reader's voxels are compared with medseg's first. medseg reads its .nii.gz files back before they appear; its
write times include that.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import io_dicom
import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from interleaved import timed
from scans import ct, organs

import medseg
from medseg.writers.nifti import write_nifti

AFFINE = np.diag([-0.8, -0.8, 1.0, 1.0])


def rows(quick: bool) -> list[dict]:
    shape, repeats = ((128, 128, 60), 2) if quick else ((512, 512, 300), 9)
    with tempfile.TemporaryDirectory() as folder:
        found = reading(Path(folder), shape, repeats) + writing(Path(folder), shape, repeats)
    return found + io_dicom.rows(quick)


def reading(folder: Path, shape: tuple[int, int, int], repeats: int) -> list[dict]:
    """An int16 CT as .nii.gz, compressed by SimpleITK."""
    from monai.transforms import LoadImage

    warnings.simplefilter("ignore")
    path, load = folder / "ct.nii.gz", LoadImage(image_only=True)
    sitk.WriteImage(sitk.GetImageFromArray(ct(shape).T), path)
    ways = {
        "medseg": lambda: medseg.read(path).array,
        "MONAI LoadImage": lambda: np.asarray(load(path)),
        "SimpleITK": lambda: sitk.ReadImage(path),
        "nibabel": lambda: np.asanyarray(nib.load(path).dataobj),
    }
    ours = ways["medseg"]()
    for name, way in ways.items():
        theirs = way()
        theirs = sitk.GetArrayFromImage(theirs).T if isinstance(theirs, sitk.Image) else theirs
        if not np.array_equal(theirs, ours):
            raise SystemExit(f"medseg and {name} read different values")
    return timed(f"read {text(shape)} int16 .nii.gz", ways, repeats)


def writing(folder: Path, shape: tuple[int, int, int], repeats: int) -> list[dict]:
    """A uint8 label map as .nii.gz."""
    labels, ours, theirs = organs(shape), folder / "ours.nii.gz", folder / "theirs.nii.gz"

    def simpleitk() -> None:
        sitk.WriteImage(sitk.GetImageFromArray(labels.T), theirs)

    def nibabel() -> None:
        nib.Nifti1Image(labels, AFFINE).to_filename(theirs)

    ways = {"medseg": lambda: write_nifti(ours, labels, AFFINE), "SimpleITK": simpleitk, "nibabel": nibabel}
    return timed(f"write {text(shape)} uint8 labels .nii.gz", ways, repeats)


def text(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))
