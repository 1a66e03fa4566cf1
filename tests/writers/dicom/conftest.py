"""Source series of any orientation, and the tools that judge what is written: dciodvfy and dcmqi."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from medseg.geometry import Grid, flip_ras_lps
from medseg.labels import LabelTable
from medseg.volume import Volume
from medseg.writers.dicom import Maker

MAKER = Maker("toy_bundle", "0.3.1")
TABLE = LabelTable.from_json(
    [
        {
            "value": 1,
            "name": "Right kidney",
            "colour": [200, 30, 60],
            "category": ["SCT", "123037004", "Anatomical Structure"],
            "type": ["SCT", "64033007", "Kidney"],
            "modifier": ["SCT", "24028007", "Right"],
        },
        {"value": 2, "name": "Tumour", "colour": [20, 130, 60]},
        {"value": 3, "name": "Größe 肝"},
    ]
)


def turn(seed: int) -> np.ndarray:
    """A random rotation, (3, 3)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, ::-1]


def affine_lps(seed: int | None = None, spacing=(0.7, 0.9, 2.5), origin=(-31.0, 12.5, -60.25)) -> np.ndarray:
    """(column, row, slice) -> LPS mm, slices along row direction x column direction; axial without a seed."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if seed is None else turn(seed)) * spacing
    affine[:3, 3] = origin
    return affine


def source(rows: int, cols: int, number: int, **tags) -> FileDataset:
    """A classic MR slice without a place."""
    ds = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, f"1.2.3.4.{number + 1}"
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Müller^Jörg", "ID-7", "19700101", "O"
    ds.Modality, ds.ImageType, ds.BodyPartExamined = "MR", ["ORIGINAL", "PRIMARY", "M"], "ABDOMEN"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
    ds.StudyID, ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "1", "20200102", "120000", "A1"
    ds.SeriesDate, ds.SeriesTime, ds.SeriesNumber, ds.InstanceNumber = "20200103", "130405", 3, number + 1
    ds.Manufacturer, ds.ReferringPhysicianName, ds.PositionReferenceIndicator = "maker", "", ""
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", rows, cols
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = np.full((rows, cols), number, np.uint16).tobytes()
    for name, value in tags.items():
        setattr(ds, name, value)
    return ds


def series(folder: Path, affine: np.ndarray, shape=(11, 14, 7), **tags) -> Path:
    """A folder of slices; `shape` is (columns, rows, slices)."""
    folder.mkdir(parents=True, exist_ok=True)
    cols, rows, slices = shape
    step = np.linalg.norm(affine[:3, :3], axis=0)
    for k in range(slices):
        ds = source(rows, cols, k, **tags)
        ds.PixelSpacing, ds.SliceThickness = [f"{step[1]:.12g}", f"{step[0]:.12g}"], f"{step[2]:.12g}"
        ds.ImageOrientationPatient = [f"{x:.13f}"[:16] for x in (affine[:3, :2] / step[:2]).T.ravel()]
        ds.ImagePositionPatient = [f"{x:.12g}" for x in affine[:3, 3] + k * affine[:3, 2]]
        ds.save_as(folder / f"IM{k:03d}", enforce_file_format=True)
    return folder


def label_map(image: Volume, table: LabelTable = TABLE, seed: int = 0) -> Volume:
    """Three blobs on the grid of an image, each in its own corner, none in the first and last slice of any axis."""
    array = np.zeros(image.array.shape[-3:], np.uint8)
    i, j, k = array.shape
    array[1 : i // 2, 1 : j // 3, 1 : k // 2] = 1
    array[i // 2 : i - 1, j // 3 : j - 2, k // 2 : k - 1] = 2
    array[1:3, j - 3 : j - 1, 2 : k - 1] = 3
    array[np.random.default_rng(seed).random(array.shape) < 0.3] = 0
    array[[0, -1]] = array[:, [0, -1]] = array[:, :, [0, -1]] = 0
    return Volume(array, image.affine, labels=table)


def centroid_mm(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """RAS mm of a mask's centre of mass."""
    return Grid(mask.shape, affine).to_world(np.argwhere(mask).mean(axis=0))


def errors(path: Path) -> list[str]:
    """What dciodvfy calls an error."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy (install it: apt-get install dicom3tools)")
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()
    assert lines, "dciodvfy said nothing"
    return [line for line in lines if line.startswith(("Error", "Abort"))]


def dcmqi(tool: str, path: Path, out: Path, *options: str) -> None:
    """Run a tool of dcmqi."""
    script = Path(sys.executable).with_name(tool)
    found = shutil.which(tool) or shutil.which(script)
    if found is None:
        pytest.skip(f"no {tool} (install it: pip install dcmqi)")
    out.mkdir(parents=True, exist_ok=True)
    run = subprocess.run([found, "--inputDICOM", str(path), *options], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def itk(path: Path) -> Volume:
    """An image that dcmqi has written."""
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image).transpose(2, 1, 0), flip_ras_lps(affine))


def segments(path: Path, out: Path) -> dict[int, Volume]:
    """Segment number -> its mask, as segimage2itkimage reads them."""
    dcmqi("segimage2itkimage", path, out, "--outputDirectory", str(out), "-p", "s", "-t", "nrrd")
    meta = json.loads((out / "s-meta.json").read_text(encoding="utf-8"))
    found = {}
    for n, group in enumerate(meta["segmentAttributes"], start=1):
        volume = itk(out / f"s-{n}.nrrd")
        for item in group:
            number = item["labelID"]
            found[number] = Volume(volume.array == number, volume.affine)
    return found


def parametric_map(path: Path, out: Path) -> Volume:
    """The map as paramap2itkimage reads it."""
    dcmqi("paramap2itkimage", path, out, "--outputDirectory", str(out), "-n", "p", "-t", "nrrd")
    return itk(out / "p-pmap.nrrd")


def report(path: Path, out: Path) -> dict:
    """The measurements as tid1500reader reads them."""
    dcmqi("tid1500reader", path, out, "--outputMetadata", str(out / "sr.json"))
    return json.loads((out / "sr.json").read_text(encoding="utf-8"))


@pytest.fixture
def lab():
    """The functions of this file: pytest's importlib mode cannot import them."""
    return SimpleNamespace(
        MAKER=MAKER,
        TABLE=TABLE,
        turn=turn,
        affine_lps=affine_lps,
        source=source,
        series=series,
        label_map=label_map,
        centroid_mm=centroid_mm,
        errors=errors,
        segments=segments,
        parametric_map=parametric_map,
        report=report,
    )
