"""DICOM series, 512 x 512 x 300 uncompressed CT slices: medseg against MONAI's LoadImage and SimpleITK."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
from interleaved import timed
from scans import ct


def write_series(folder: Path, slices: int, side: int) -> None:
    """A CT, one explicit little endian file a slice."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    stored = (ct((side, side, slices)) + 1024).astype(np.uint16)
    series, frame = generate_uid(), generate_uid()
    for k in range(slices):
        ds = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = series, series, frame
        ds.Modality, ds.ImageType, ds.SeriesNumber, ds.InstanceNumber = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], 2, k + 1
        ds.PatientName, ds.PatientID, ds.StudyDate, ds.ContentTime = "Bench", "1", "20260101", "120000"
        ds.Manufacturer, ds.KVP, ds.ConvolutionKernel, ds.AcquisitionNumber = "medseg", 120, "B30f", 1
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-180, -180, k * 1.5], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [0.7, 0.7], 1.5
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", side, side
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = stored[:, :, k].T.tobytes()
        ds["PixelData"].VR = "OW"
        ds.save_as(folder / f"{k:04d}.dcm")


def rows(quick: bool) -> list[dict]:
    import SimpleITK
    from monai.data import ITKReader
    from monai.transforms import LoadImage

    import medseg

    warnings.simplefilter("ignore")
    slices, side, repeats = (30, 128, 2) if quick else (300, 512, 9)
    load = LoadImage(reader=ITKReader(), image_only=True)

    def simpleitk(folder: str) -> SimpleITK.Image:
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
        return reader.Execute()

    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder), slices, side)
        ours = medseg.read(folder).array.transpose(2, 1, 0)
        if not np.array_equal(ours, SimpleITK.GetArrayFromImage(simpleitk(folder))):
            raise SystemExit("medseg and SimpleITK read different values")
        ways = {
            "medseg": lambda: medseg.read(folder).array,
            "MONAI LoadImage (ITKReader)": lambda: load(folder),
            "SimpleITK scan + read": lambda: simpleitk(folder),
        }
        return timed(f"DICOM series {side}x{side}x{slices} uncompressed", ways, repeats)
