"""The tags of DICOM files, without their pixels: one `Header` a file, plain values, no patient data.

`tags.py` walks over ordinary files, pydicom over all others; the few values we need are decoded here from the raw
bytes. A value that is missing is None; a file that cannot be parsed raises MS-D101.
"""

from __future__ import annotations

import math
import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.charset import convert_encodings, decode_bytes

from medseg.errors import InputError
from medseg.readers.dicom.deflated import deflated_header
from medseg.readers.dicom.tags import HEAD, UNDEFINED_LENGTH, Tags, walk
from medseg.readers.sniff import looks_like_dicom

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PIXEL_DATA = (0x7FE0, 0x0010)
DIRECTORY = "1.2.840.10008.1.3.10"
IMPLICIT_LE, EXPLICIT_LE, DEFLATED, EXPLICIT_BE = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2"))
_PROBE, _SLOW_S = 4, 0.02

# kind: s text, S list of texts, f floats, F binary double, i integer (None when it is none), I integer that must be, u unsigned short, r raw bytes (vendor's own, compared only)
_TAGS: dict[str, tuple[int, str]] = {
    "charset": (0x00080005, "S"),
    "image_type": (0x00080008, "S"),
    "sop_class": (0x00080016, "s"),
    "sop_uid": (0x00080018, "s"),
    "acquisition_date": (0x00080022, "s"),
    "content_date": (0x00080023, "s"),
    "acquisition_datetime": (0x0008002A, "s"),
    "acquisition_time": (0x00080032, "s"),
    "content_time": (0x00080033, "s"),
    "modality": (0x00080060, "s"),
    "manufacturer": (0x00080070, "s"),
    "description": (0x0008103E, "r"),
    "complex_component": (0x00089208, "s"),
    "contrast_agent": (0x00180010, "s"),
    "slice_thickness": (0x00180050, "f"),
    "kvp": (0x00180060, "s"),
    "repetition_time": (0x00180080, "s"),
    "echo_time": (0x00180081, "s"),
    "inversion_time": (0x00180082, "s"),
    "echo_number": (0x00180086, "s"),
    "spacing_between": (0x00180088, "f"),
    "trigger_time": (0x00181060, "s"),
    "kernel": (0x00181210, "s"),
    "flip_angle": (0x00181314, "s"),
    "b_value": (0x00189087, "F"),
    "gradient": (0x00189089, "r"),
    "series_uid": (0x0020000E, "s"),
    "study_uid": (0x0020000D, "s"),
    "series_number": (0x00200011, "i"),
    "acquisition_number": (0x00200012, "s"),
    "instance_number": (0x00200013, "i"),
    "position": (0x00200032, "f"),
    "orientation": (0x00200037, "f"),
    "frame_of_reference": (0x00200052, "s"),
    "temporal_position": (0x00200100, "s"),
    "cardiac_phase": (0x00209241, "r"),
    "samples": (0x00280002, "u"),
    "photometric": (0x00280004, "s"),
    "frames": (0x00280008, "I"),
    "rows": (0x00280010, "u"),
    "cols": (0x00280011, "u"),
    "pixel_spacing": (0x00280030, "f"),
    "bits_allocated": (0x00280100, "u"),
    "bits_stored": (0x00280101, "u"),
    "high_bit": (0x00280102, "u"),
    "signed": (0x00280103, "u"),
    "padding": (0x00280120, "r"),
    "intercept": (0x00281052, "f"),
    "slope": (0x00281053, "f"),
    "lossy": (0x00282110, "s"),
    "frame_reference_time": (0x00541300, "s"),
    "units": (0x00541001, "s"),
    "siemens_tiles": (0x0019100A, "u"),
    "siemens_b": (0x0019100C, "r"),
    "siemens_gradient": (0x0019100E, "r"),
    "siemens_csa": (0x00291010, "r"),
    "philips_b": (0x20011003, "r"),
    "ge_b": (0x00431039, "r"),
    "ge_gradient_x": (0x001910BB, "r"),
    "ge_gradient_y": (0x001910BC, "r"),
    "ge_gradient_z": (0x001910BD, "r"),
}
_NAMES = {tag: (name, kind) for name, (tag, kind) in _TAGS.items()}
_FUNCTIONAL_GROUPS = frozenset({0x52009229, 0x52009230, 0x00209222})
_SPECIFIC = [*_NAMES, *_FUNCTIONAL_GROUPS]


@dataclass(frozen=True, eq=False, slots=True)
class Header:
    """What one file says of itself.

    Args:
        path: the file.
        size: bytes on disk.
        syntax: transfer syntax UID, '' when the file does not say and it cannot be guessed.
        pixel_offset: where the pixel values begin, None when there is no pixel data or it is deflated.
        pixel_length: their bytes, `UNDEFINED_LENGTH` when encapsulated, 0 when absent.
        values: the tags of `_TAGS` that are present, decoded.
        dataset: the parsed tags, kept only where there are functional groups (enhanced multi-frame).
    """

    path: Path
    size: int
    syntax: str
    pixel_offset: int | None
    pixel_length: int
    values: Mapping[str, Any]
    dataset: pydicom.Dataset | None = None

    def get(self, name: str) -> Any:
        """The value of a tag of `_TAGS`, None when it is absent or empty."""
        return self.values.get(name)

    @property
    def native(self) -> bool:
        """Whether pixel values lie in the file as they are: neither compressed nor deflated."""
        return self.syntax in (IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE) and self.pixel_length != UNDEFINED_LENGTH

    @property
    def description(self) -> str:
        """SeriesDescription in the file's own character set."""
        raw = self.values.get("description")
        if not raw:
            return ""
        encodings = convert_encodings(list(self.values.get("charset") or ["ISO_IR 6"]))
        return decode_bytes(raw, encodings, {0x5C}).strip(" \0")


def find_files(path: Path) -> list[Path]:
    """Every regular file under `path` in the order of names; of a DICOMDIR, the files beside and below it."""
    if path.is_file() and path.name.upper() != "DICOMDIR":
        return [path]
    root = path.parent if path.is_file() else path
    found = []
    for folder, names, files in os.walk(root):
        names.sort()
        found += [Path(folder, name) for name in sorted(files) if name.upper() != "DICOMDIR"]
    return [f for f in found if f.is_file()]


def read_headers(files: Iterable[Path]) -> tuple[list[Header], list[InputError], list[Path]]:
    """Headers of the DICOM files among `files`, the errors of damaged ones, and the files of another kind."""
    files = list(files)
    headers, errors, others = [], [], []
    for file, result in zip(files, _read_all(files), strict=True):
        if result is None:
            others.append(file)
        elif isinstance(result, Header):
            headers.append(result)
        else:
            errors.append(result)
    return headers, errors, others


def _read_all(files: list[Path]) -> Iterable[Header | InputError | None]:
    # Parsing holds Python's lock, so threads only help where the disk or the network is slow: the first files tell.
    start = time.perf_counter()
    head = [_read_or_error(file) for file in files[:_PROBE]]
    if len(files) <= _PROBE or time.perf_counter() - start < _SLOW_S * _PROBE:
        return chain(head, map(_read_or_error, files[_PROBE:]))
    with ThreadPoolExecutor(max_workers=16) as pool:
        return [*head, *pool.map(_read_or_error, files[_PROBE:])]


def _read_or_error(path: Path) -> Header | InputError | None:
    try:
        return read_header(path)
    except InputError as error:
        return error


def read_header(path: Path) -> Header | None:
    """The header of a file, None when it is no DICOM file.

    Raises:
        InputError: MS-D101 when it is DICOM but cannot be parsed or opened.
    """
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(HEAD)
            if not looks_like_dicom(head):
                return None
            size = os.fstat(file.fileno()).st_size
            tags = walk(file, head, size, _NAMES.keys(), _FUNCTIONAL_GROUPS)
        header = _by_pydicom(path, size) if tags is None else _ordinary(path, size, tags)
    except Exception as error:
        raise InputError(
            "MS-D101",
            f"this DICOM file cannot be parsed ({type(error).__name__}: {error})",
            file=path,
            mend="copy or export it again, or take it out of the folder",
        ) from error
    if not header.values.keys() & {"sop_class", "sop_uid", "rows"}:
        found = "this file begins like DICOM but holds no object: it is cut short or damaged"
        raise InputError("MS-D101", found, file=path, mend="copy or export it again, or take it out of the folder")
    return header


def _ordinary(path: Path, size: int, tags: Tags) -> Header:
    values = {}
    for tag, raw in tags.values.items():
        name, kind = _NAMES[tag]
        if (value := raw or None if kind == "r" else _decode(raw, kind)) is not None:
            values[name] = value
    return Header(path, size, tags.syntax, tags.pixel_offset, tags.pixel_length, values)


def _by_pydicom(path: Path, size: int) -> Header:
    dataset, offset, length = deflated_header(path, _SPECIFIC), None, 0
    if dataset is None:
        with path.open("rb") as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=_SPECIFIC)  # pyright: ignore[reportArgumentType]
            offset, length = _find_pixels(file, dataset)
    syntax = _transfer_syntax(dataset)
    values = {}
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset decodes its elements
        name, kind = _NAMES.get(int(tag), (None, ""))
        if name is not None and (value := _from_dataset(dataset, tag, kind)) is not None:
            values[name] = value
    if dataset.file_meta.get("MediaStorageSOPClassUID") == DIRECTORY:  # a DICOMDIR under another name
        values["sop_class"] = DIRECTORY
    enhanced = 0x52009230 in dataset or 0x52009229 in dataset
    return Header(path, size, syntax, offset, length, values, dataset if enhanced else None)


def _transfer_syntax(dataset: pydicom.Dataset) -> str:
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if syntax:
        return str(syntax)
    implicit, little = dataset.original_encoding
    return (IMPLICIT_LE if implicit else EXPLICIT_LE) if little else EXPLICIT_BE


def _find_pixels(file, dataset: pydicom.FileDataset) -> tuple[int | None, int]:
    # pydicom has stopped in front of the pixel data's tag, or at the end of the file.
    implicit, little = dataset.original_encoding
    order = "<" if little else ">"
    here = file.tell()
    head = file.read(12)
    if len(head) < 8 or struct.unpack(order + "HH", head[:4]) != PIXEL_DATA:
        return None, 0
    if implicit:
        return here + 8, struct.unpack(order + "L", head[4:8])[0]
    return here + 12, struct.unpack(order + "L", head[8:12])[0]


def _from_dataset(dataset: pydicom.Dataset, tag: int, kind: str) -> Any:
    element = dataset.get_item(tag)
    raw = None if element is None else element.value
    if kind == "S" and raw and not isinstance(raw, bytes):  # pydicom has needed the character set already
        return (raw,) if isinstance(raw, str) else tuple(str(part) for part in raw)
    if not isinstance(raw, bytes) or not raw:
        return None
    return raw if kind == "r" else _decode(raw, kind, little=getattr(element, "is_little_endian", True))


@lru_cache(maxsize=1 << 12)  # the slices of a series share most of their values
def _decode(raw: bytes, kind: str, *, little: bool = True) -> Any:
    """The value of an element of any kind of `_TAGS` but "r", None when it is empty."""
    if not raw:
        return None
    if kind == "u":
        return int.from_bytes(raw[:2], "little" if little else "big")
    if kind == "F":
        return struct.unpack("<d" if little else ">d", raw[:8])[0]
    text = raw.decode("latin-1").strip(" \0")
    if not text:
        return None
    if kind == "s":
        return text
    parts = [part.strip(" \0") for part in text.split("\\")]
    if kind == "S":
        return tuple(parts)
    if kind == "I" or (kind == "i" and parts[0].lstrip("+-").isdigit()):
        return int(parts[0])
    if kind == "i":
        return None
    numbers = tuple(float(part) for part in parts)
    if not all(math.isfinite(n) for n in numbers):
        msg = f"an element holds {text!r}, no finite numbers"
        raise ValueError(msg)
    return numbers
