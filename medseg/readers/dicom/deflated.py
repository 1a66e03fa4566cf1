"""Deflated DICOM files, unpacked no further than is needed: a few kilobytes can unpack to gigabytes.

Of such a file all that follows the file meta information is one raw deflate stream (PS3.5 A.5), and pydicom unpacks it as
a whole. Headers need its beginning alone.
"""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import TYPE_CHECKING

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medseg.errors import MemoryLimitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Tags before the pixels are shorter than this, functional groups of many thousand frames among them.
_HEAD = 32 << 20
#: 1000 slices of 512 x 512 in 30 binary segments are less.
MOST = 1 << 30
_CHUNK = 1 << 20
#: Where the file meta information begins, behind preamble and magic; and its VRs with a length of four bytes.
_MAGIC_ENDS = 128 + 4
_LONG = (b"OB", b"OW", b"UN", b"UT", b"SQ")
_PIXEL_DATA = 0x7FE00010


def read_tags(path: Path, tags: list[int] | None = None) -> pydicom.Dataset:
    """The tags in front of the pixels of any DICOM file.

    Args:
        path: a DICOM file.
        tags: which are kept; None: all.

    Raises:
        Exception: whatever zlib and pydicom say of a broken file.
    """
    dataset = deflated_header(path, tags)
    if dataset is not None:
        return dataset
    return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)  # pyright: ignore[reportArgumentType]


def deflated_header(path: Path, tags: list[int] | None) -> pydicom.Dataset | None:
    """The tags in front of the pixels of a deflated file; None for every other file.

    Args:
        path: a DICOM file.
        tags: which are kept; None: all.

    Raises:
        Exception: whatever zlib and pydicom say of a broken file.
    """
    start = _start(path)
    if start is None:
        return None
    head = BytesIO()
    for block in _inflated(path, start):
        head.write(block)
        if head.tell() >= _HEAD:
            break
    head.seek(0)
    dataset = read_dataset(
        head,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag == _PIXEL_DATA,
        specific_tags=tags,  # pyright: ignore[reportArgumentType]
    )
    dataset.file_meta = read_file_meta_info(path)
    return dataset


def require_inflatable(path: Path, most: int = MOST) -> None:
    """Refuse a deflated file that unpacks to more than `most` bytes, keeping none of them; other files pass.

    For objects that pydicom must read as a whole, segmentations and structure sets.

    Raises:
        MemoryLimitError: MS-D144.
    """
    start = _start(path)
    if start is None:
        return
    count = 0
    for block in _inflated(path, start):
        count += len(block)
        if count > most:
            raise MemoryLimitError(
                "MS-D144",
                f"it unpacks to more than {most / 2**20:.0f} MiB, more than what it says it holds",
                file=path,
                mend="export it again without deflate",
            )


def _start(path: Path) -> int | None:
    """Where the deflate stream begins, None for a file that is not deflated."""
    try:
        meta = read_file_meta_info(path)
    except InvalidDicomError:  # without preamble or meta information it cannot be deflated
        return None
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return None
    with path.open("rb") as file:
        file.seek(_MAGIC_ENDS)
        while (head := file.read(8))[:2] == b"\x02\x00":  # an element of group 2, always explicit VR little endian
            length = int.from_bytes(head[6:8], "little")
            if head[4:6] in _LONG:
                length = int.from_bytes(file.read(4), "little")
            file.seek(length, 1)
        return file.tell() - len(head)


def _inflated(path: Path, start: int) -> Iterator[bytes]:
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as file:
        file.seek(start)
        while not decoder.eof and (data := decoder.unconsumed_tail or file.read(_CHUNK)):
            yield decoder.decompress(data, _CHUNK)
