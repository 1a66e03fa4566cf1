"""A byte pattern and a file name planted in a site's images, and a search for them in everything outside the site."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

#: Grey values that no scan holds by chance in this order; as int16 they are 32 bytes.
VALUES = np.array([7, 1913, 22, 811, 5, 1212, 93, 1777, 31, 404, 1999, 16, 655, 77, 1501, 2], np.int16)
#: A name as hospitals give them. Its first part alone is looked for.
NAME = "MUSTERMANN_ERIKA_19470811"


def plant(image: Path) -> None:
    """Fill the upper half of a scan with the pattern, over and over, and write the name into its header."""
    scan = nib.load(image)
    array = np.asarray(scan.dataobj).astype(np.int16)
    flat = array.reshape(-1, order="F")
    half = flat.size // 2 // VALUES.size * VALUES.size
    flat[:half] = np.tile(VALUES, half // VALUES.size)
    made = nib.Nifti1Image(flat.reshape(array.shape, order="F"), scan.affine)
    made.header["descrip"] = NAME.encode()
    image.unlink()
    nib.save(made, image)


def needles() -> dict[str, bytes]:
    """What to look for: the pattern as any program might have it in memory, the name as text in any coding."""
    raw = {f"pattern as {kind}": VALUES.astype(kind).tobytes() for kind in ("<i2", ">i2", "<i4", "<f2", "<f4", "<f8")}
    raw |= {f"name as {code}": NAME[:15].encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")}
    coded = {}
    for name, data in raw.items():
        coded[f"{name}, in hexadecimal"] = data.hex().encode()
        for shift in range(
            3
        ):  # where it begins within base64's groups of three; the outer groups are mixed with neighbours
            text = base64.b64encode(bytes(shift) + data)[4 if shift else 0 :]
            coded[f"{name}, in base64 at {shift}"] = text[: len(text) // 4 * 4 - 4]
    return raw | coded


def found(data: bytes, wanted: dict[str, bytes], *, depth: int = 3) -> set[str]:
    """Which needles are in some bytes, or in what they hold packed (zip, tar, gzip, bzip2, xz, zlib), packed again too."""
    hits = {name for name, needle in wanted.items() if needle in data or needle.lower() in data}
    if depth:
        for inner in _unpacked(data):
            hits |= found(inner, wanted, depth=depth - 1)
    return hits


def found_below(place: Path, wanted: dict[str, bytes]) -> set[tuple[str, str]]:
    """(file, needle) for every file at or below a place, by its content and by its own name."""
    paths = [place] if place.is_file() else sorted(path for path in place.rglob("*"))
    hits = set()
    for path in paths:
        name = str(path.relative_to(place.parent))
        hits |= {(name, f"{needle} (its name)") for needle in found(name.encode(), wanted, depth=0)}
        if path.is_file():
            hits |= {(name, needle) for needle in found(path.read_bytes(), wanted)}
    return hits


def _unpacked(data: bytes):
    for start, opened in ((b"\x1f\x8b", gzip.decompress), (b"BZh", bz2.decompress), (b"\xfd7zXZ", lzma.decompress)):
        if data.startswith(start):
            yield from _tried(opened, data)
    if data[:1] == b"\x78":
        yield from _tried(zlib.decompress, data)
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                yield info.filename.encode()
                yield archive.read(info)
    elif len(data) > 512 and data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                yield member.name.encode()
                file = archive.extractfile(member)
                if file is not None:
                    yield file.read()


def _tried(opened, data: bytes):
    try:
        yield opened(data)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError):
        return
