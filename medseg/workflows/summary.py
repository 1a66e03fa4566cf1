"""What a run leaves beside its cases: summary.csv, failures.csv, index.html and record.json."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from medseg.reports.index import index_html
from medseg.workflows import record as records
from medseg.workflows.index import index_entries
from medseg.workflows.layout import FAILURES, INDEX, RECORD, SUMMARY, CaseFiles
from medseg.workflows.measure import columns_of
from medseg.workflows.outcome import Failure
from medseg.workflows.seal import sealed
from medseg.writers.atomic import sha256, write_json, write_text
from medseg.writers.tables import csv_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from medseg.workflows.outcome import CaseReport
    from medseg.workflows.settings import Settings

#: What stands beside the cases, the record apart.
TABLES = (SUMMARY, FAILURES, INDEX)
FAILURE_COLUMNS = tuple(field.name for field in fields(Failure) if field.name != "memory")


@dataclass(frozen=True)
class Earlier:
    """What a folder holds of cases that this run is not about, or did not come to: a resumed run adds to the tables.

    Args:
        summary: rows of summary.csv.
        failures: rows of failures.csv.
        cases: case -> status, as in record.json.
    """

    summary: Sequence[Mapping[str, str]] = ()
    failures: Sequence[Mapping[str, str]] = ()
    cases: Mapping[str, str] = field(default_factory=dict)

    def without(self, names: AbstractSet[str]) -> Earlier:
        """What it says of other cases than these."""
        return Earlier(
            [row for row in self.summary if row["case"] not in names],
            [row for row in self.failures if row["case"] not in names],
            {name: status for name, status in self.cases.items() if name not in names},
        )


def read_earlier(out: Path, *, instances: bool = False) -> Earlier:
    """What the tables of `out` say; `instances`: whether the bundle finds some."""
    cases = (records.read_record(out / RECORD) or {}).get("cases", {})
    return Earlier(
        _rows(out / SUMMARY, ("case", *columns_of(instances=instances))), _rows(out / FAILURES, FAILURE_COLUMNS), cases
    )


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a table; none of one that is not there or that somebody made unreadable."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            found = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return []
    return [{c: row.get(c) or "" for c in columns} for row in found if row.get("case")]


def write_run(
    out: Path,
    reports: Sequence[CaseReport],
    fixed: Mapping[str, Any],
    settings: Settings,
    state: str,
    earlier: Earlier,
    *,
    instances: bool = False,
    listed: str | None = None,
) -> None:
    """Write these files, each atomically.

    Args:
        out: the output folder.
        reports: of the cases that are over.
        fixed: what a resumed run must share, from `run_settings`.
        settings: of the run.
        state: 'running', 'done' or 'interrupted'.
        earlier: rows of other cases that stay.
        instances: whether the bundle finds some.
        listed: SHA-256 of the list of cases (CSV, JSON) that was given; None without one.
    """
    columns = ("case", *columns_of(instances=instances))
    if state != "running":
        rows = [{"case": case.name, **m.row(outside_domain=case.mark)} for case in reports for m in case.measurements]
        write_text(out / SUMMARY, csv_text(columns, [*earlier.summary, *rows]))
        failed = [{k: v for k, v in asdict(case.failure).items() if k != "memory"} for case in reports if case.failure]
        write_text(out / FAILURES, csv_text(FAILURE_COLUMNS, [*earlier.failures, *failed]))
        if settings.views:
            write_text(out / INDEX, index_html(index_entries(out, reports, earlier)))
    cases = {**earlier.cases, **{case.name: case.status for case in reports}}
    record = {
        "schema": records.SCHEMA,
        "notice": records.RESEARCH,
        "state": state,
        "created": records.now(),
        "versions": records.versions(),
        "settings": fixed,
        "device": settings.device,
        "threads": settings.threads,
        "deterministic": settings.deterministic,
        "outside_domain_allowed": settings.outside_domain,
        "input_list": listed,
        "cases": cases,
        "records": _case_records(out, cases, flat=settings.flat),
        "files": {name: sha256(out / name) for name in TABLES if state != "running" and (out / name).is_file()},
    }
    write_json(out / RECORD, sealed(record))


def _case_records(out: Path, cases: Mapping[str, str], *, flat: bool) -> dict[str, str]:
    """Case -> SHA-256 of its record, of the cases that have results of this run or of one before."""
    paths = {name: CaseFiles(out, name, flat).record for name, status in cases.items() if status != "failed"}
    return {name: sha256(path) for name, path in paths.items() if path.is_file()}
