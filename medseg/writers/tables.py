"""Tables as CSV text."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as CSV, in the columns' order."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
