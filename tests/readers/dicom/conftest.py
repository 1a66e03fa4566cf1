"""Synthetic DICOM series whose every voxel tells where it lies: value = 2x + 3y + 5z of its LPS position in mm.

The function is linear, so linear resampling must reproduce it exactly; a wrong axis, flip, step or order cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pydicom

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
WEIGHTS = np.array([2.0, 3.0, 5.0])


def truth(lps_mm: np.ndarray) -> np.ndarray:
    """(..., 3) LPS mm -> (...) grey value."""
    return np.asarray(lps_mm) @ WEIGHTS


@dataclass
class Stack:
    """How a series lies: `positions` (n, 3) LPS mm, `r` and `c` the row and column directions."""

    positions: np.ndarray
    r: np.ndarray
    c: np.ndarray
    spacing: tuple[float, float] = (2.0, 3.0)  # between rows, between columns
    shape: tuple[int, int] = (7, 5)  # rows, columns

    def plane(self, k: int) -> np.ndarray:
        """(rows, cols) true values of slice k."""
        j, i = np.meshgrid(*map(np.arange, self.shape), indexing="ij")
        steps = i[..., None] * self.r * self.spacing[1] + j[..., None] * self.c * self.spacing[0]
        return truth(self.positions[k] + steps)


def stack(n=8, step=5.0, *, tilt_deg=0.0, oblique=False, steps=None, start=(-10.0, 20.0, -30.0)) -> Stack:
    """An axial stack (or an oblique one); `tilt_deg` leans the gantry about x, `steps` gives uneven distances."""
    r, c = np.array([1.0, 0, 0]), np.array([0.0, 1, 0])
    if oblique:
        turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
        r, c = turn[0], turn[1]
    normal = np.cross(r, c)
    direction = normal + np.tan(np.radians(tilt_deg)) * c
    heights = np.arange(n) * step if steps is None else np.concatenate([[0], np.cumsum(steps)])
    return Stack(np.array(start) + heights[:, None] * direction, r, c)


def dataset(image: np.ndarray, *, modality="CT", slope: float | None = 1.0, intercept: float | None = -1024.0, **tags):
    """A classic image with `image` as its true grey values."""
    ds = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CT if modality == "CT" else MR
    ds.SOPInstanceUID = generate_uid()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Secret^Person", "SECRET-ID", "19700101"
    ds.Modality, ds.ImageType = modality, ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.FrameOfReferenceUID = "1.2.3.4.5"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SeriesNumber = "1.2.3.1", "1.2.3.2", 3
    ds.StudyID, ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.PatientSex = "1", "20200101", "120000", "", "O"
    ds.SeriesDescription, ds.Manufacturer = "phantom", "medseg"
    ds.SliceThickness = 5
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = image.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    if slope is not None:
        ds.RescaleSlope, ds.RescaleIntercept = f"{slope:g}", f"{intercept:g}"
    stored = np.round((image - (intercept or 0.0)) / (slope or 1.0)).astype("<i2")
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
    for name, value in tags.items():
        setattr(ds, name, value)
    return ds


def write_stack(
    folder: Path,
    stack: Stack,
    *,
    edit: Callable[[pydicom.Dataset, int], None] | None = None,
    name: Callable[[int], str] = "IM{:04d}".format,
    skip: tuple[int, ...] = (),
    **tags,
) -> Path:
    """A folder of classic slices; `edit(ds, k)` changes slice k before it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(len(stack.positions)):
        if k in skip:
            continue
        ds = dataset(stack.plane(k), **tags)
        ds.ImagePositionPatient = [f"{x:.10g}" for x in stack.positions[k]]
        ds.ImageOrientationPatient = [f"{x:.10g}" for x in (*stack.r, *stack.c)]
        ds.PixelSpacing = list(stack.spacing)
        ds.InstanceNumber = k + 1
        if edit is not None:
            edit(ds, k)
        ds.save_as(folder / name(k))
    return folder


def assert_faithful(volume, tolerance: float = 1e-3) -> None:
    """Every voxel has the value of the place its affine gives it."""
    index = np.stack(np.meshgrid(*map(np.arange, volume.array.shape), indexing="ij"), axis=-1)
    lps = volume.grid.to_world(index) * [-1, -1, 1]
    error = np.abs(volume.array - truth(lps))
    assert error.max() <= tolerance


@pytest.fixture
def phantom():
    """The functions of this file: pytest's importlib mode cannot import them."""
    return SimpleNamespace(
        truth=truth, stack=stack, dataset=dataset, write_stack=write_stack, assert_faithful=assert_faithful
    )


@pytest.fixture
def codes():
    """The codes of a volume's decisions."""
    return lambda volume: {d.code for d in volume.source.decisions}
