"""What `medseg evaluate` leaves in its folder, each file whole or not at all."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from medseg.errors import OutputError
from medseg.metrics.table import COLUMNS, Aggregate, Row
from medseg.workflows.lock import LOCK, WORK
from medseg.workflows.outcome import Failure
from medseg.writers.atomic import write_json, write_text
from medseg.writers.tables import csv_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CASES, SUMMARY, REPORT, FAILURES = "cases.csv", "summary.json", "report.html", "failures.csv"
COMPARE, GROUPS, LONGITUDINAL = "compare.csv", "groups.csv", "longitudinal.csv"
#: All names that a run may write; nothing else in the folder is ever touched.
OURS = (CASES, SUMMARY, REPORT, FAILURES, COMPARE, GROUPS, LONGITUDINAL)

#: Stands in every output folder of `medseg predict`.
_PREDICTED = "record.json"


def require_room(out: Path, *, overwrite: bool) -> None:
    """Check that an evaluation may write into `out`.

    Raises:
        OutputError: MS-E301 it holds files and `overwrite` is off, or it is a folder of `medseg predict`.
    """
    here = [path.name for path in out.iterdir() if path.name not in (LOCK, WORK)] if out.is_dir() else []
    if _PREDICTED in here:  # its failures.csv would be replaced
        raise OutputError(
            "MS-E301", "this folder holds predictions", file=out, mend="name a new folder for the evaluation with -o"
        )
    if here and not overwrite:
        raise OutputError(
            "MS-E301",
            f"this folder is not empty (it holds {min(here)!r})",
            file=out,
            mend="name a new folder with -o, or replace the evaluation in it with --overwrite",
        )


def write_tables(
    out: Path,
    rows: Sequence[Row],
    failures: Sequence[Failure],
    extra: Mapping[str, Sequence[Mapping[str, object]]],
) -> None:
    """Write cases.csv, failures.csv, and those of compare.csv, groups.csv and longitudinal.csv that have rows.

    Files of an earlier evaluation that this one does not write are removed.
    """
    for name in OURS:
        (out / name).unlink(missing_ok=True)
    write_text(out / CASES, csv_text(COLUMNS, map(asdict, rows)))
    columns = [f.name for f in fields(Failure) if f.name != "memory"]
    write_text(out / FAILURES, csv_text(columns, ({c: getattr(f, c) for c in columns} for f in failures)))
    for name, found in extra.items():
        if found:
            write_text(out / name, csv_text(found[0], found))


def write_summary(out: Path, content: Mapping[str, Any]) -> None:
    """Write summary.json; JSON has no word for infinity, so 'inf' stands there, and null for a mean of nothing."""
    write_json(out / SUMMARY, in_json(content))


def in_json(value: Any) -> Any:
    """Plain data that JSON can hold."""
    if isinstance(value, Aggregate):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(k): in_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [in_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value
