"""A volume of the scene as something that medseg can read: its own file where that is the same, else a copy.

What is compared is the place of the voxels. A NIfTI file stands in for its volume only when nothing was changed since
it was read and every affine in it is the volume's; a DICOM series only when the volume holds every one of its slices.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vtk

from MedSegLib.errors import MedSegError
from MedSegLib.nifti_header import NiftiHeader, read_nifti_header

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Two grids are one when no corner moves farther, mm. The float32 of NIfTI keeps a metre to 6e-5 mm.
SAME_MM = 1e-3


@dataclass(frozen=True)
class Source:
    """What medseg reads in place of a volume node.

    Args:
        path: a file, or a folder with one DICOM series.
        kind: "file" (the volume's own), "dicom" (its own series) or "copy".
        transform: the id of the transform that the results have to stand under too; "" for none.
        comparable: whether the results must cover the very place that the volume covers.
    """

    path: Path
    kind: str
    transform: str = ""
    comparable: bool = True


def prepare(volume: Any, folder: Path) -> Source:
    """The input of medseg for a volume node.

    Args:
        volume: a vtkMRMLScalarVolumeNode.
        folder: where copies may be put; it must exist.

    Raises:
        MedSegError: the node holds no image, labels or colours, or lies sheared in space.
    """
    image = volume.GetImageData() if volume is not None else None
    if image is None or image.GetPointData().GetScalars() is None:
        what = "there is no image in this volume"
        raise MedSegError(what, "choose a volume that holds an image")
    if volume.IsA("vtkMRMLLabelMapVolumeNode") or image.GetNumberOfScalarComponents() != 1:
        what = f"'{volume.GetName()}' holds labels or colours, not one grey value a voxel"
        raise MedSegError(what, "choose the scan itself")
    parent = volume.GetParentTransformNode()
    transform = parent.GetID() if parent is not None else ""
    files = _unchanged_files(volume)
    if len(files) == image.GetDimensions()[2] and all(map(_is_dicom, files)):
        # A warp over a DICOM volume is how Slicer straightens a tilted or uneven scan; medseg does that by itself.
        warped = parent is not None and not parent.IsTransformToWorldLinear()
        series = _series(files, folder / "dicom")
        return Source(series, "dicom", transform="" if warped else transform, comparable=not warped)
    if len(files) == 1 and files[0].name.lower().endswith((".nii", ".nii.gz")):
        header = read_nifti_header(files[0])
        if header is not None and _is_of(header, volume):
            return Source(files[0], "file", transform)
    return Source(_copy(volume, folder), "copy", transform)


def safe_name(volume: Any) -> str:
    """A case name for a volume: letters, digits, '-' and '_'; one from DICOM may quote the patient's tags, so none does."""
    if volume.GetAttribute("DICOM.instanceUIDs"):
        return "volume"
    name = re.sub(r"[^\w-]+", "_", volume.GetName() or "", flags=re.ASCII).strip("_")[:60]
    return re.sub(r"_0000$", "", name) or "volume"


def same_place(volume: Any, header: NiftiHeader) -> bool:
    """Whether a file's grid covers the place that a volume node covers, whatever the order and direction of their axes."""
    shape = volume.GetImageData().GetDimensions()
    if sorted(shape) != sorted(header.shape[:3]) or not header.affines:
        return False
    matrix, stated = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    stated.DeepCopy([value for row in header.affines[0] for value in row])
    there = _corners(stated, header.shape[:3])
    return all(min(_apart(corner, other) for other in there) <= SAME_MM for corner in _corners(matrix, shape))


def _unchanged_files(volume: Any) -> list[Path]:
    """The files that the node was read from; [] when it was changed since, or one is gone."""
    storage = volume.GetStorageNode()
    if storage is None or volume.GetModifiedSinceRead() or not storage.GetFileName():
        return []
    listed = [storage.GetNthFileName(n) for n in range(storage.GetNumberOfFileNames())]
    names = dict.fromkeys(listed or [storage.GetFileName()])
    files = [Path(storage.GetFullNameFromFileName() if name == storage.GetFileName() else name) for name in names]
    return files if all(path.is_file() for path in files) else []


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _series(files: list[Path], folder: Path) -> Path:
    """A folder with these files and no others: where they lie there may be more series."""
    folder.mkdir()
    for number, path in enumerate(files):
        place = folder / f"{number:05d}.dcm"
        try:
            os.link(path, place)
        except OSError:  # another disk, or one without links
            shutil.copyfile(path, place)
    return folder


def _is_of(header: NiftiHeader, volume: Any) -> bool:
    shape = volume.GetImageData().GetDimensions()
    padded = (*header.shape, 1, 1, 1)
    if tuple(padded[:3]) != tuple(shape) or any(size > 1 for size in header.shape[3:]) or not header.affines:
        return False
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    ends = list(itertools.product(*((0.0, size - 1.0) for size in shape)))
    stated = vtk.vtkMatrix4x4()
    for affine in header.affines:
        stated.DeepCopy([value for row in affine for value in row])
        # Slicer turns the third axis of a left-handed file round, voxels and matrix alike.
        turned = stated.Determinant() < 0 < matrix.Determinant()
        for i, j, k in ends:
            in_file = stated.MultiplyPoint((i, j, shape[2] - 1.0 - k if turned else k, 1.0))[:3]
            if _apart(matrix.MultiplyPoint((i, j, k, 1.0))[:3], in_file) > SAME_MM:
                return False
    return True


def _corners(matrix: Any, shape: Sequence[int]) -> list[tuple[float, ...]]:
    """The centres of the eight corner voxels, RAS mm."""
    ends = itertools.product(*((0.0, size - 1.0) for size in shape))
    return [matrix.MultiplyPoint((*end, 1.0))[:3] for end in ends]


def _copy(volume: Any, folder: Path) -> Path:
    path = folder / f"{safe_name(volume)}.nii"  # not packed: it is read once
    storage = volume.GetScene().CreateNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.UnRegister(None)  # CreateNodeByClass leaves the reference to its caller
    storage.SetFileName(str(path))
    written = storage.WriteData(volume)
    header = read_nifti_header(path) if written and path.is_file() else None
    if header is None:
        what = f"'{volume.GetName()}' could not be written to a temporary file"
        raise MedSegError(what, "look whether the disk is full", file=str(path))
    if not _is_of(header, volume):
        what = f"the axes of '{volume.GetName()}' are not perpendicular, which NIfTI does not hold as it stands"
        raise MedSegError(what, "harden its transform or resample it (module Resample Scalar Volume), then try again")
    return path


def _apart(p: Sequence[float], q: Sequence[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(p, q)) ** 0.5
