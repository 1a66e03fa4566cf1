"""What a run leaves beside its cases: summary.csv, failures.csv and record.json."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from medseg.workflows import record as records
from medseg.workflows.case_run import csv_text
from medseg.workflows.layout import FAILURES, RECORD, SUMMARY
from medseg.workflows.measure import COLUMNS
from medseg.workflows.outcome import Failure
from medseg.writers.atomic import write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medseg.workflows.case_run import Settings
    from medseg.workflows.outcome import CaseReport

FAILURE_COLUMNS = tuple(field.name for field in fields(Failure) if field.name != "memory")


def write_run(
    out: Path, reports: Sequence[CaseReport], fixed: Mapping[str, Any], settings: Settings, state: str
) -> None:
    """Write the three files, each atomically.

    Args:
        out: the output folder.
        reports: of the cases that are over.
        fixed: what a resumed run must share, from `run_settings`.
        settings: of the run.
        state: 'running', 'done' or 'interrupted'.
    """
    if state != "running":
        rows = [
            {"case": case.name, **m.row(outside_domain=bool(case.outside_domain))}
            for case in reports
            for m in case.measurements
        ]
        write_text(out / SUMMARY, csv_text(("case", *COLUMNS), rows))
        failed = [{k: v for k, v in asdict(case.failure).items() if k != "memory"} for case in reports if case.failure]
        write_text(out / FAILURES, csv_text(FAILURE_COLUMNS, failed))
    write_json(
        out / RECORD,
        {
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
            "cases": {case.name: case.status for case in reports},
        },
    )
