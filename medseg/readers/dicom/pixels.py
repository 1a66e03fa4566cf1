"""Planes -> one array of grey values after the modality rescale.

Native pixel data is read straight into the array; compressed data is decoded in a process of its own (`decoder.py`).
Values stay int16 where that is exact (slope 1, whole intercepts, range fits), else they are float32.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from medseg.errors import InputError
from medseg.readers.dicom.decoder import decoded
from medseg.readers.dicom.headers import DEFLATED, EXPLICIT_BE, Header

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.readers.dicom.planes import Plane


#: Files a thread takes at once: handing them out one by one costs as much as reading them.
_BATCH = 16


class _DoesNotFitError(Exception):
    """Values beyond int16 turned up."""


def load_stack(planes: Sequence[Plane]) -> np.ndarray:
    """(slices, rows, cols) grey values of sorted planes of one size, int16 or float32.

    Raises:
        InputError: MS-D109 file ends early, MS-D110 decoder not installed, MS-D111 compressed data is damaged, MS-D141 and
            MS-D142 its decoder crashed or hung.
        MemoryLimitError: MS-D143 its decoder took more memory than its pixels can need.
    """
    if _whole_numbers(planes):
        try:
            return _load(planes, np.dtype(np.int16))
        except _DoesNotFitError:
            pass
    return _load(planes, np.dtype(np.float32))


def plane_values(plane: Plane) -> np.ndarray:
    """(rows, cols) grey values of one plane, to compare it with another."""
    return load_stack([plane])[0]


def check_size(header: Header) -> None:
    """Refuse a file that ends before its native pixel data does.

    Raises:
        InputError: MS-D109.
    """
    sizes = (header.get("rows"), header.get("cols"), header.get("bits_allocated"))
    if not header.native or header.pixel_offset is None or None in sizes:
        return
    need = (header.get("frames") or 1) * _frame_bytes(header)
    have = min(header.size - header.pixel_offset, header.pixel_length)
    if have < need:
        raise _truncated(header.path, have, need)


def _whole_numbers(planes: Sequence[Plane]) -> bool:
    if any(p.slope not in (None, 1.0) or (p.intercept or 0) % 1 for p in planes):
        return False
    return all((p.header.get("bits_stored") or 16) <= 16 and abs(p.intercept or 0) <= 2**15 for p in planes)


def _load(planes: Sequence[Plane], dtype: np.dtype) -> np.ndarray:
    out = np.empty((len(planes), planes[0].rows, planes[0].cols), dtype)
    native: list[int] = []
    compressed: dict[tuple[Path, int], list[int]] = {}
    for n, plane in enumerate(planes):
        if plane.header.native:
            native.append(n)
        else:
            compressed.setdefault((plane.path, plane.frame), []).append(n)
    _load_compressed(planes, list(compressed.values()), out)
    _load_native(planes, native, out)
    return out


def _load_native(planes: Sequence[Plane], numbers: list[int], out: np.ndarray) -> None:
    """Read planes into their places, several at a time; tiles of one image from one reading."""
    jobs: dict[tuple[Path, int], list[int]] = {}
    for n in numbers:
        jobs.setdefault((planes[n].path, planes[n].frame), []).append(n)

    def work(batch: list[list[int]]) -> None:
        for job in batch:
            first = planes[job[0]]
            whole = first.tile is None and out.dtype.itemsize == (first.header.get("bits_allocated") or 0) // 8
            place = out[job[0]].view(_raw_dtype(first.header)) if whole else None
            image = _read_native(first.header, first.frame, place)
            for n in job:
                _rescale(_cut(image, planes[n]), planes[n], out[n])

    todo = list(jobs.values())
    batches = [todo[n : n + _BATCH] for n in range(0, len(todo), _BATCH)]
    if len(batches) < 2:
        work(todo)
        return
    with ThreadPoolExecutor(max_workers=4) as pool:
        for _ in pool.map(work, batches):
            pass


def _load_compressed(planes: Sequence[Plane], jobs: list[list[int]], out: np.ndarray) -> None:
    """Decode frames, each once, and put the planes that lie in them into their places."""
    for syntax, header in {planes[job[0]].header.syntax: planes[job[0]].header for job in jobs}.items():
        require_decoder(syntax, header.path)
    with closing(decoded([(planes[job[0]].header, planes[job[0]].frame) for job in jobs])) as images:
        for job, image in zip(jobs, images, strict=True):
            for n in job:
                _rescale(_cut(image, planes[n]), planes[n], out[n])


def _raw_dtype(header: Header) -> np.dtype:
    return np.dtype(f"{'i' if header.get('signed') else 'u'}{header.get('bits_allocated') // 8}")


def _frame_bytes(header: Header) -> int:
    return header.get("rows") * header.get("cols") * (header.get("bits_allocated") // 8)


def _read_native(header: Header, frame: int, into: np.ndarray | None) -> np.ndarray:
    """(rows, cols) stored values as they lie in the file, read into `into` when it is given."""
    need = _frame_bytes(header)
    image = np.empty((header.get("rows"), header.get("cols")), _raw_dtype(header)) if into is None else into
    with header.path.open("rb", buffering=0) as file:
        file.seek((header.pixel_offset or 0) + frame * need)
        view, done = memoryview(image.data).cast("B"), 0
        while done < need:  # an unbuffered read may return less than it was asked for
            got = file.readinto(view[done:])
            if not got:
                raise _truncated(header.path, done, need)
            done += got
    if header.syntax == EXPLICIT_BE and image.itemsize > 1:
        image.byteswap(inplace=True)
    return image


def _truncated(path: Path, have: int, need: int) -> InputError:
    return InputError(
        "MS-D109",
        f"the file ends early: {max(have, 0)} of {need} bytes of pixel data",
        file=path,
        mend="copy or export this slice again",
    )


def require_decoder(syntax: str, path: Path) -> None:
    """Refuse compressed pixels that nothing installed decodes.

    Raises:
        InputError: MS-D110.
    """
    name = UID(syntax).name if syntax else "unknown"
    try:
        available = get_decoder(UID(syntax)).is_available
    except NotImplementedError:
        available = syntax == DEFLATED
    if not available:
        raise InputError(
            "MS-D110",
            f"no decoder for its transfer syntax, {name} ({syntax or 'not given'})",
            file=path,
            mend="pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg pyjpegls, or export it uncompressed",
        )


def _cut(image: np.ndarray, plane: Plane) -> np.ndarray:
    if plane.tile is None:
        return image
    row, col = divmod(plane.tile, plane.tiles_across)
    return image[row * plane.rows : (row + 1) * plane.rows, col * plane.cols : (col + 1) * plane.cols]


def _rescale(raw: np.ndarray, plane: Plane, out: np.ndarray) -> None:
    """Stored values -> grey values in `out`; `raw` may be `out` itself under its stored type."""
    raw = _stored_bits(raw, plane.header)
    if out.dtype == np.float32:
        values = raw.astype(np.float64)
        values *= plane.slope or 1.0
        values += plane.intercept or 0.0
        out[...] = values
        return
    offset = int(plane.intercept or 0)
    stored = plane.header.get("bits_stored") or 16
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if plane.header.get("signed") else (0, 2**stored - 1)
    if low + offset < -(2**15) or high + offset >= 2**15:  # only then it is worth to look
        low, high = int(raw.min()), int(raw.max())
        if low + offset < -(2**15) or high + offset >= 2**15:
            raise _DoesNotFitError
    if not np.may_share_memory(raw, out):
        out[...] = raw.astype(np.int32) + offset if raw.dtype.itemsize > 2 or offset else raw
    elif offset:
        out += np.int16(offset)  # the bits of uint16 and int16 add alike, and the sum fits


def _stored_bits(raw: np.ndarray, header: Header) -> np.ndarray:
    """`raw` without what lies in the bits beside the stored ones (overlays, padding), sign extended, in place."""
    allocated = raw.dtype.itemsize * 8
    stored = header.get("bits_stored") or allocated
    high = header.get("high_bit")
    shift = (high if high is not None else stored - 1) + 1 - stored
    if stored >= allocated:
        return raw
    if not raw.flags.writeable:
        raw = raw.copy()
    left = allocated - stored - max(shift, 0)
    if raw.dtype.kind == "i":
        raw <<= left
        raw >>= allocated - stored
    else:
        if shift > 0:
            raw >>= shift
        raw &= raw.dtype.type(2**stored - 1)
    return raw
