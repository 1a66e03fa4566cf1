"""Reading and writing NIfTI, 512 x 512 x 300, and DICOM series (io_dicom.py), against MONAI, SimpleITK and nibabel.

Every reader's voxels are compared with medseg's first. medseg reads its .nii.gz files back before they appear; its
write times include that.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import io_dicom
import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813

from medseg.readers.nifti import read_nifti
from medseg.writers.nifti import write_nifti

if TYPE_CHECKING:
    from collections.abc import Callable

AFFINE = np.diag([-0.8, -0.8, 1.0, 1.0])


def rows(quick: bool) -> list[dict]:
    shape, repeats = ((128, 128, 60), 2) if quick else ((512, 512, 300), 7)
    with tempfile.TemporaryDirectory() as folder:
        found = reading(Path(folder), shape, repeats) + writing(Path(folder), shape, repeats)
    return found + io_dicom.rows(quick)


def reading(folder: Path, shape: tuple[int, int, int], repeats: int) -> list[dict]:
    """An int16 CT as .nii.gz."""
    from monai.transforms import LoadImage

    warnings.simplefilter("ignore")
    path, load = folder / "ct.nii.gz", LoadImage(image_only=True)
    write_nifti(path, ct(shape), AFFINE)
    ways = {
        "medseg": lambda: read_nifti(path).array,
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


def timed(case: str, ways: dict[str, Callable], repeats: int) -> list[dict]:
    """Medians of interleaved repeats, in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(1000 * (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in times.items()}
    mine = medians.pop("medseg")
    return [
        {"case": case, "peer": peer, "ratio": theirs / mine, "medseg": mine, "theirs": theirs, "unit": "ms"}
        for peer, theirs in medians.items()
    ]


def ct(shape: tuple[int, int, int]) -> np.ndarray:
    """A body of noisy soft tissue in air."""
    i, j, _ = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    inside = np.broadcast_to(i**2 / 0.7 + j**2 / 0.5 < 1, shape)
    return np.where(inside, 40 + np.random.default_rng(0).normal(0, 15, shape), -1000).astype(np.int16)


def organs(shape: tuple[int, int, int]) -> np.ndarray:
    """Twenty balls."""
    rng, labels = np.random.default_rng(0), np.zeros(shape, np.uint8, order="F")
    i, j, k = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    for value in range(1, 21):
        (x, y, z), radius = rng.uniform(-0.7, 0.7, 3), rng.uniform(0.1, 0.3)
        labels[(i - x) ** 2 + (j - y) ** 2 + (k - z) ** 2 < radius**2] = value
    return labels


def text(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))
