"""Bytes of a file into an array: exact, checked to the last byte, one allocation of known size.

gzip streams are decoded by isal straight into the array: faster than SimpleITK on a 512x512x300 CT, and, unlike
SimpleITK and nibabel, every checksum is compared. Sizes are compared with the header before any memory is taken.
"""

from __future__ import annotations

import bz2
import os
import zlib
from contextlib import contextmanager
from gzip import BadGzipFile
from typing import TYPE_CHECKING

import numpy as np
import psutil
from isal import igzip, isal_zlib

from medseg.errors import InputError, MemoryLimitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedIOBase
    from pathlib import Path

    from medseg.readers.options import ReadOptions

_CHUNK = 1 << 20
_CORRUPT: tuple[type[Exception], ...] = (isal_zlib.error, zlib.error, BadGzipFile)  # type: ignore[assignment]
#: Deflate shrinks nothing below 1/1032 of its size.
_DEFLATE_LIMIT = 1032
#: A file that unpacks to so many bytes, and so many times its size, is taken for a decompression bomb: scans shrink to a
#: half or a quarter, and what shrinks to a hundredth is nearly empty, as label maps are, which are seldom so large.
_BOMB_BYTES, _BOMB_RATIO = 2_000_000_000, 100
#: Bytes beyond the image that are counted (and thrown away) before the file is taken for a decompression bomb.
_MAX_EXTRA = 1 << 30


def require_room(path: Path, shape: tuple[int, ...], dtype: np.dtype, options: ReadOptions) -> int:
    """Bytes of an image of `shape` and `dtype`, after the limits of `options` and of this machine allowed it.

    Raises:
        InputError: MS-F113 more voxels than `options.max_voxels`.
        MemoryLimitError: MS-M110 more bytes than there is free memory.
    """
    voxels = 1
    for n in shape:
        voxels *= int(n)
    size = " x ".join(str(n) for n in shape)
    needed = voxels * dtype.itemsize
    if voxels > options.max_voxels:
        raise InputError(
            "MS-F113",
            f"its header declares {size} voxels ({_gib(needed)} as stored), the limit is {options.max_voxels} voxels",
            file=path,
            mend=f"if the header is right, raise the limit: --max-voxels {voxels}",
        )
    free = psutil.virtual_memory().available
    if needed > free:
        raise MemoryLimitError(
            "MS-M110",
            f"{size} voxels need {_gib(needed)}, {_gib(free)} of memory is free",
            file=path,
            mend="crop or resample the image first, or use a machine with more memory",
        )
    return needed


@contextmanager
def open_stream(path: Path, *, gzipped: bool) -> Iterator[BufferedIOBase]:
    """The (decompressed) bytes of a file; every failure of the decoder names the file.

    Raises:
        InputError: MS-F120 the file ends early, MS-F121 it is corrupt.
    """
    with translated(path), path.open("rb") as file:
        if gzipped:
            with _inflating(file) as stream:
                yield stream
        else:
            yield file


@contextmanager
def _inflating(file: BufferedIOBase) -> Iterator[BufferedIOBase]:
    with igzip.IGzipFile(fileobj=file, mode="rb") as stream:
        # The file object's own `readinto` reads bytes and copies them; its buffer inflates straight into the array.
        yield getattr(stream, "_buffer", stream)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what decoders raise on broken bytes into InputErrors that name `path`.

    Raises:
        InputError: MS-F120 the file ends early, MS-F121 it is corrupt.
    """
    try:
        yield
    except EOFError:
        raise InputError(
            "MS-F120", "the compressed file ends early", file=path, mend="copy or download it again"
        ) from None
    except _CORRUPT as error:
        raise InputError(
            "MS-F121", f"the compressed data are corrupt ({error})", file=path, mend="copy or download it again"
        ) from None


def skip(stream: BufferedIOBase, count: int, path: Path) -> None:
    """Move on by `count` bytes.

    Raises:
        InputError: MS-F120 when there are fewer.
    """
    while count > 0:
        block = stream.read(min(count, _CHUNK))
        if not block:
            raise _short(path, "it ends early, before its first voxel")
        count -= len(block)


def read_array(stream: BufferedIOBase, path: Path, count: int, dtype: np.dtype) -> np.ndarray:
    """Exactly `count` values of `dtype` (any byte order) as a writable 1-D array in native byte order.

    Raises:
        InputError: MS-F120 when the stream ends early.
    """
    array = np.empty(count, dtype)
    view = array.view(np.uint8).data
    done = 0
    while done < len(view):
        got = stream.readinto(view[done : done + _CHUNK])
        if not got:
            raise _short(path, f"it ends early: {done} of {len(view)} bytes of voxels")
        done += got
    return native(array)


def native(array: np.ndarray) -> np.ndarray:
    """`array` in this machine's byte order, swapped in place when needed."""
    if array.dtype.isnative:
        return array
    return array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))


def drain(stream: BufferedIOBase, path: Path) -> int:
    """Read to the end, so that checksums are compared; the number of bytes there were.

    Raises:
        InputError: MS-F122 when there is no end in sight.
    """
    extra = 0
    while block := stream.read(_CHUNK):
        extra += len(block)
        if extra > _MAX_EXTRA:
            raise InputError(
                "MS-F122",
                f"more than {_gib(_MAX_EXTRA)} follow after the image that its header declares",
                file=path,
                mend="its header or its data are wrong: write the file again from its source",
            )
    return extra


def require_bytes(path: Path, offset: int, needed: int, *, gzipped: bool) -> None:
    """Refuse, before anything is allocated, a file that cannot hold the image its header declares, or is a bomb.

    Raises:
        InputError: MS-F120, MS-F123.
    """
    size = path.stat().st_size
    if not gzipped and size < offset + needed:
        got = max(size - offset, 0)
        raise _short(path, f"it ends early: {got} of {needed} bytes of voxels")
    if gzipped and size * _DEFLATE_LIMIT < needed:
        raise _short(path, f"{size} compressed bytes cannot hold the {needed} bytes that its header declares")
    if gzipped and needed >= _BOMB_BYTES and size * _BOMB_RATIO < needed:
        raise InputError(
            "MS-F123",
            f"its {size} bytes unpack to {_gib(needed)}, {needed // max(size, 1)} times as much, as a decompression bomb does",
            file=path,
            mend="if it is what it should be, save it without compression and name that file",
        )


def require_whole(path: Path, total: int, *, start: int = 0) -> None:
    """Refuse a gzip file that was cut, without inflating a whole one.

    The last four bytes of gzip hold the size of what it unpacks to, modulo 2^32 (RFC 1952). Where they do not say
    `total` (cut, something after the voxels, several streams in a row), it is inflated to its end to be sure.

    Args:
        path: a file that is gzip from `start` on.
        total: bytes that it must unpack to, or more.
        start: byte at which gzip begins.

    Raises:
        InputError: MS-F120 it ends early, MS-F121 it is corrupt, MS-F122 there is no end in sight.
    """
    with translated(path), path.open("rb") as file:
        if remaining(file) >= start + 4:
            file.seek(-4, os.SEEK_END)
            if int.from_bytes(file.read(4), "little") == total % 2**32:
                return
        file.seek(start)
        with _inflating(file) as stream:
            found = 0
            while found < total and (block := stream.read(min(total - found, _CHUNK))):
                found += len(block)
            if found < total:
                raise _short(path, f"it ends early: {found} of {total} bytes")
            drain(stream, path)


def inflate(data: bytes, path: Path, count: int, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """`count` values of `dtype` out of one zlib stream (MetaImage), and how many bytes follow it.

    Raises:
        InputError: MS-F120 ends early, MS-F121 corrupt.
    """
    needed = count * dtype.itemsize
    with translated(path):
        decoder = isal_zlib.decompressobj()
        out = decoder.decompress(data, needed + 1)
        while not decoder.eof and len(out) <= needed:
            more = decoder.decompress(decoder.unconsumed_tail, needed + 1 - len(out))
            if not more and not decoder.eof:
                raise _short(path, f"it ends early: {len(out)} of {needed} bytes of voxels")
            out += more
    if len(out) < needed:
        raise _short(path, f"it ends early: {len(out)} of {needed} bytes of voxels")
    array = np.frombuffer(out, dtype, count).copy()
    return native(array), len(out) - needed + len(decoder.unused_data)


@contextmanager
def open_encoded(file: BufferedIOBase, encoding: str) -> Iterator[BufferedIOBase]:
    """The rest of an open file, decoded: 'raw', 'gzip' or 'bzip2'."""
    if encoding == "gzip":
        with _inflating(file) as stream:
            yield stream
    elif encoding == "bzip2":
        with bz2.BZ2File(file) as stream:
            yield stream
    else:
        yield file


def remaining(file: BufferedIOBase) -> int:
    """Bytes from the file's position to its end."""
    return os.fstat(file.fileno()).st_size - file.tell()


def _short(path: Path, what: str) -> InputError:
    return InputError("MS-F120", what, file=path, mend="copy or download it again")


def _gib(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"
