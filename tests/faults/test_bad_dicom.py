"""Bad DICOM folders of our own making: none is accepted, each refusal names file or folder, finding, mend and code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.uid import JPEG2000Lossless, RLELossless

import medseg
from medseg.errors import InputError
from tests.readers.dicom.conftest import assert_faithful, dataset, stack, write_stack

if TYPE_CHECKING:
    from collections.abc import Callable


def edited(change, only: int | None = None, **tags) -> Callable[[Path], None]:
    """A sound stack whose slices (or slice `only`) are changed by `change(dataset)`."""

    def make(folder: Path) -> None:
        write_stack(folder, stack(), edit=lambda ds, k: change(ds) if only in (None, k) else None, **tags)

    return make


def without(*names: str, only: int | None = None) -> Callable[[Path], None]:
    return edited(lambda ds: [delattr(ds, name) for name in names], only)


def with_tags(only: int | None = None, **tags) -> Callable[[Path], None]:
    return edited(lambda ds: [setattr(ds, name, value) for name, value in tags.items()], only)


def duplicate(folder: Path) -> None:
    write_stack(folder, stack())
    other = dataset(stack().plane(0))
    other.ImagePositionPatient, other.ImageOrientationPatient = [-10, 20, -15], [1, 0, 0, 0, 1, 0]
    other.PixelSpacing, other.InstanceNumber = [2, 3], 99
    other.save_as(folder / "odd")


def two_series(folder: Path) -> None:
    write_stack(folder / "a", stack())
    write_stack(folder / "b", stack(n=4), SeriesNumber=7, SeriesInstanceUID="1.2.3.7")


def damaged_jpeg(folder: Path) -> None:
    big = stack(n=3)
    big.shape = (64, 64)
    write_stack(folder, big, edit=lambda ds, k: ds.compress(JPEG2000Lossless))
    data = bytearray((folder / "IM0001").read_bytes())
    at = data.index(b"\xff\x4f\xff\x51")
    data[at : at + 40] = bytes(40)
    (folder / "IM0001").write_bytes(data)


def unknown_syntax(ds) -> None:
    ds.compress(RLELossless)
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # MPEG-4


def other_matrix(folder: Path) -> None:
    write_stack(folder, stack(), skip=(3,))
    odd = stack()
    odd.shape = (4, 4)
    write_stack(folder, odd, skip=tuple(k for k in range(8) if k != 3))


def cut_headers(folder: Path) -> None:
    write_stack(folder, stack(n=3))
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:200])


def no_dicom(folder: Path) -> None:
    (folder / "notes.txt").write_text("the scans are on the other disk")


def localizer(ds) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


BAD: dict[str, Callable[[Path], None]] = {
    "a slice missing": lambda folder: write_stack(folder, stack(), skip=(3,)) and None,
    "slices missing at two places": lambda folder: write_stack(folder, stack(n=12), skip=(3, 7, 8)) and None,
    "uneven steps": lambda folder: write_stack(folder, stack(steps=[5, 5, 5, 5, 2.5, 3.1, 2.5])) and None,
    "two different slices at one place": duplicate,
    "two series": two_series,
    "no orientation": without("ImageOrientationPatient"),
    "no position": without("ImagePositionPatient"),
    "one slice without position": without("ImagePositionPatient", only=4),
    "no pixel spacing": without("PixelSpacing"),
    "CT without rescaling": without("RescaleSlope", "RescaleIntercept"),
    "CT without intercept": without("RescaleIntercept"),
    "one slice without pixels": without("PixelData", only=3),
    "one slice with too few pixels": edited(lambda ds: setattr(ds, "PixelData", ds.PixelData[:-8]), only=3),
    "pixel spacing zero": with_tags(PixelSpacing=[0, 1]),
    "slope zero": with_tags(RescaleSlope="0"),
    "directions that are none": with_tags(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
    "directions all zero": with_tags(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]),
    "a dose, no image": with_tags(SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2"),
    "colours": with_tags(SamplesPerPixel=3),
    "two frames promised, one there": with_tags(NumberOfFrames=2),
    "one slice beside the line": with_tags(only=5, ImagePositionPatient=[-10, 24, -5]),
    "one slice of another matrix": other_matrix,
    "damaged JPEG 2000": damaged_jpeg,
    "no decoder": edited(unknown_syntax),
    "localizers alone": edited(localizer),
    "every header cut": cut_headers,
    "no DICOM at all": no_dicom,
}


def test_the_folder_is_sound_but_for_one_thing(tmp_path):
    write_stack(tmp_path / "scan", stack())
    assert_faithful(medseg.read(tmp_path / "scan"), 0.0)


def test_none_is_accepted_and_each_refusal_says_what_to_do(tmp_path, count):
    accepted, poor, codes = [], {}, set()
    for n, (kind, make) in enumerate(BAD.items()):
        folder = tmp_path / str(n)
        folder.mkdir()
        make(folder)
        try:
            volume = medseg.read(folder)
        except InputError as error:
            codes.add(error.code)
            lacks = [
                "" if re.fullmatch(r"MS-[A-Z]\d{3}", error.code) else "a code",
                "" if error.file is not None and Path(error.file).is_relative_to(folder) else "the file",
                "" if len(error.what.split()) >= 3 else "the finding",
                "" if len(error.mend.split()) >= 3 else "the mend",
                "Secret" * ("Secret^Person" in str(error) or "SECRET-ID" in str(error)),
            ]
            if any(lacks):
                poor[kind] = f"{', '.join(filter(None, lacks))}: {error}"
        else:
            accepted.append((kind, volume.array.shape, [d.code for d in volume.source.decisions]))
    assert accepted == []
    assert poor == {}
    assert len(BAD) >= 20
    count("bad DICOM folders", len(BAD), len(BAD), f"refused, named with mend; {len(codes)} codes")
