"""Planes -> one array of grey values after the modality rescale.

Native pixel data is read straight into the array; compressed data is decoded by pydicom and its plug-ins.
Values stay int16 where that is exact (slope 1, whole intercepts, range fits), else they are float32.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from medseg.errors import InputError
from medseg.readers.dicom.headers import EXPLICIT_BE, Header

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from medseg.readers.dicom.planes import Plane


#: Files a thread takes at once: handing them out one by one costs as much as reading them.
_BATCH = 16


class _DoesNotFitError(Exception):
    """Values beyond int16 turned up."""


def load_stack(planes: Sequence[Plane]) -> np.ndarray:
    """(slices, rows, cols) grey values of sorted planes of one size, int16 or float32.

    Raises:
        InputError: MS-D109 file ends early, MS-D110 decoder not installed, MS-D111 compressed data is damaged.
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
    jobs: dict[tuple[Path, int], list[int]] = {}
    for n, plane in enumerate(planes):
        jobs.setdefault((plane.path, plane.frame if plane.header.native else 0), []).append(n)

    def work(batch: list[list[int]]) -> None:
        for job in batch:
            for n, raw in _raw_planes([(n, planes[n]) for n in job], out):
                _rescale(raw, planes[n], out[n])

    todo = list(jobs.values())
    batches = [todo[n : n + _BATCH] for n in range(0, len(todo), _BATCH)]
    if len(batches) == 1:
        work(todo)
    else:
        with ThreadPoolExecutor(max_workers=4) as pool:
            for _ in pool.map(work, batches):
                pass
    return out


def _raw_planes(job: list[tuple[int, Plane]], out: np.ndarray) -> Iterable[tuple[int, np.ndarray]]:
    # All planes of a job lie in one file, and in one frame of it where it is native.
    first = job[0][1]
    header = first.header
    if header.native:
        whole = first.tile is None and out.dtype.itemsize == (header.get("bits_allocated") or 0) // 8
        place = out[job[0][0]].view(_raw_dtype(header)) if whole else None
        image = _read_native(header, first.frame, place)
        for n, plane in job:
            yield n, _cut(image, plane)
        return
    dataset, decoder = _open_compressed(header)
    images: dict[int, np.ndarray] = {}
    for n, plane in job:
        if plane.frame not in images:
            images = {plane.frame: _decode(dataset, decoder, header, plane.frame)}
        yield n, _cut(images[plane.frame], plane)


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


def _open_compressed(header: Header):
    name = UID(header.syntax).name if header.syntax else "unknown"
    try:
        decoder = get_decoder(UID(header.syntax))
        available = decoder.is_available
    except NotImplementedError:
        decoder, available = None, header.syntax.endswith("1.2.1.99")
    if not available:
        raise InputError(
            "MS-D110",
            f"no decoder for its transfer syntax, {name} ({header.syntax or 'not given'})",
            file=header.path,
            mend="pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg pyjpegls, or export it uncompressed",
        )
    return pydicom.dcmread(header.path, force=True), decoder


def _decode(dataset: pydicom.Dataset, decoder, header: Header, frame: int) -> np.ndarray:
    try:
        if decoder is None:  # deflated: pydicom has unpacked the whole data set
            return dataset.pixel_array
        image, _ = decoder.as_array(dataset, index=frame, raw=True)
        shape = (header.get("rows"), header.get("cols"))
        if image.shape != shape:
            msg = f"{image.shape} pixels instead of {shape}"
            raise ValueError(msg)
    except BaseException as error:  # decoders written in Rust panic with a BaseException
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(
            "MS-D111",
            f"its compressed pixel data ({UID(header.syntax).name}) cannot be decoded: {reason}",
            file=header.path,
            mend="copy or export this slice again, best uncompressed",
        ) from error
    return image


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
