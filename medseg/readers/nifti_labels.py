"""Names of label values in a NIfTI header's extensions: medseg's own table, and the one that TotalSegmentator writes."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import TYPE_CHECKING

from medseg.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMENT = 6
#: Connectome Workbench's XML ("Caret"); TotalSegmentator writes it under code 0. It is read by pattern, never parsed
#: as XML: a header is no place for entities.
_CARET = (0, 30)
_LABEL = re.compile(
    r'<Label\s+Key="(\d{1,9})"\s+Red="(\d+(?:\.\d+)?)"\s+Green="(\d+(?:\.\d+)?)"\s+Blue="(\d+(?:\.\d+)?)"[^>]{0,200}>'
    r"\s*(?:<!\[CDATA\[([^\]]{1,200})\]\]>|([^<]{1,200}))\s*</Label>"
)


def labels_in_extensions(raw: bytes, order: str) -> list[dict] | None:
    """The rows of a label table as `LabelTable.from_json` reads them, None where there is none.

    Args:
        raw: the bytes between header and voxels.
        order: byte order, 'little' or 'big'.
    """
    for code, content in _extensions(raw, order):
        rows = _ours(content) if code == _COMMENT else _carets(content) if code in _CARET else None
        if rows:
            return rows
    return None


def _extensions(raw: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    if raw[:1] in (b"", b"\0"):
        return
    at = 4
    while at + 8 <= len(raw):
        esize, ecode = (int.from_bytes(raw[at + n : at + n + 4], order) for n in (0, 4))  # type: ignore[arg-type]
        if esize < 8 or at + esize > len(raw):
            return
        yield ecode, raw[at + 8 : at + esize].rstrip(b"\0")
        at += esize


def _ours(content: bytes) -> list[dict] | None:
    try:
        return json.loads(content)["medseg"]["labels"]
    except (ValueError, TypeError, KeyError):
        return None  # somebody else's comment


def _carets(content: bytes) -> list[dict] | None:
    """Values above 0 with a name; None where a value or a name stands twice."""
    rows = []
    for key, red, green, blue, quoted, plain in _LABEL.findall(content.decode("utf-8", "replace")):
        name = printable(quoted or unescape(plain)).strip()
        if int(key) > 0 and name:
            colour = [min(255, round(255 * float(c))) for c in (red, green, blue)]
            rows.append({"value": int(key), "name": name, "colour": colour})
    unique = len({row["value"] for row in rows}) == len({row["name"] for row in rows}) == len(rows)
    return rows if rows and unique else None
