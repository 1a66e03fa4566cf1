"""Every byte of a folder, packed ones unpacked: where a word stands in it."""

from __future__ import annotations

import base64
import binascii
import gzip
import html
import io
import re
import struct
import unicodedata
import zipfile
import zlib
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{64,}={0,2}")
_DEEPEST = 5
_PNG = b"\x89PNG\r\n\x1a\n"


def layers(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """The data, and whatever is packed in it: gzip (several members), zip, text of PNG, base64 in pages, zlib."""
    yield data
    if depth == _DEEPEST:
        return
    for inner in _unpacked(data):
        yield from layers(inner, depth + 1)
    yield from _escaped(data)


def _unpacked(data: bytes) -> Iterator[bytes]:
    if data[:2] == b"\x1f\x8b":
        yield from _gzip(data)
    elif data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield archive.comment
            for info in archive.infolist():
                yield info.filename.encode() + info.comment + info.extra
                yield archive.read(info)
    elif data[:8] == _PNG:
        yield from _png(data)
    elif data[:4] == b"NRRD" and b"\n\n" in data:
        yield from _unpacked(data.split(b"\n\n", 1)[1])
    elif data[:1] == b"\x78":
        try:
            yield zlib.decompress(data)
        except zlib.error:
            return
    elif b"\0" not in data:
        yield from _base64(data)


def _base64(data: bytes) -> Iterator[bytes]:
    for hit in _BASE64.finditer(data):
        try:
            yield base64.b64decode(hit[0] + b"=" * (-len(hit[0]) % 4))
        except binascii.Error:
            continue


def _escaped(data: bytes) -> Iterator[bytes]:
    """A text as it is meant."""
    if b"\0" in data:
        return
    for meant in (
        unquote_to_bytes(data) if b"%" in data else data,
        html.unescape(data.decode("utf-8", "replace")).encode() if b"&" in data else data,
        re.sub(rb"\\u([0-9a-fA-F]{4})", lambda hit: chr(int(hit[1], 16)).encode("utf-8", "replace"), data),
    ):
        if meant != data:
            yield meant


def _gzip(data: bytes) -> Iterator[bytes]:
    flags, place = data[3], 10
    if flags & 8:  # the name of the file that was packed
        yield data[place : data.index(b"\0", place)]
    try:
        yield gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return


def _png(data: bytes) -> Iterator[bytes]:
    place = 8
    while place + 8 <= len(data):
        (length,), kind = struct.unpack(">I", data[place : place + 4]), data[place + 4 : place + 8]
        body = data[place + 8 : place + 8 + length]
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            for start in range(len(body)):
                if body[start : start + 1] == b"\x78":
                    try:
                        yield zlib.decompress(body[start:])
                    except zlib.error:
                        continue
        place += length + 12


def spellings(word: str) -> set[bytes]:
    """A word as files may spell it, in small letters: UTF-8 composed or not, Latin-1, UTF-16, escaped."""
    out: set[bytes] = set()
    for text in {unicodedata.normalize(form, word.casefold()) for form in ("NFC", "NFD")} | {word.lower()}:
        out |= {
            text.encode("utf-8"),
            text.encode("utf-16-le"),
            text.encode("utf-16-be"),
            text.encode("unicode_escape").lower(),
        }
        out.add(text.encode("latin-1", "ignore") if not text.isascii() else text.encode())
        out.add(text.encode("ascii", "xmlcharrefreplace"))
    return {form for form in out if len(form) > 2}


def found_in(data: bytes, words: Sequence[str]) -> set[str]:
    """The words that stand in some data."""
    forms = {word: spellings(word) for word in words}
    out: set[str] = set()
    for layer in layers(data):
        small = layer.lower()
        out |= {word for word, of in forms.items() if any(form in small for form in of)}
    return out


def found_below(folder: Path, words: Sequence[str]) -> list[tuple[str, str]]:
    """(file, word) of every word in a name or in the bytes of a file below a folder."""
    out = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        out += [(name, word) for word in found_in(name.encode("utf-8", "surrogateescape"), words)]
        if path.is_file():
            out += [(name, word) for word in sorted(found_in(path.read_bytes(), words))]
    return out
