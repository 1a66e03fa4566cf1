"""The rows of OUT/index.html: every case of a run, those of earlier runs among them."""

from __future__ import annotations

from itertools import groupby
from math import isnan
from typing import TYPE_CHECKING

from medseg.reports.index import IndexEntry
from medseg.workflows.layout import INDEX, CaseFiles
from medseg.workflows.measure import Measurement
from medseg.workflows.stage import WARNINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from medseg.workflows.outcome import CaseReport
    from medseg.workflows.summary import Earlier


#: Stands in every page that medseg made.
OWN = '<p class="kicker">medseg predict</p>'


def index_entries(out: Path, reports: Sequence[CaseReport], earlier: Earlier) -> list[IndexEntry]:
    """One entry a case.

    Args:
        out: the output folder.
        reports: of this run.
        earlier: rows of summary.csv and failures.csv about other cases.
    """
    entries = []
    for report in reports:
        if report.failure:
            reason = f"{report.failure.code} {report.failure.what} -> {report.failure.mend}"
            entries.append(IndexEntry(report.name, "", status="failed", reason=reason))
        else:
            entries.append(_entry(out, report.name, report.measurements, report.mark, report.status, report.folder))
    for name, rows in groupby(earlier.summary, key=lambda row: row["case"]):
        found = list(rows)
        measured = [Measurement.from_row(row) for row in found]
        entries.append(_entry(out, name, measured, found[0]["outside_domain"], "finished before"))
    for row in earlier.failures:
        reason = f"{row['code']} {row['what']} -> {row['mend']}"
        entries.append(IndexEntry(row["case"], "", status="failed", reason=reason))
    return entries


def forget_index(out: Path) -> None:
    """Remove the page of a run before, whose reports are gone; a page that medseg did not write stays."""
    page = out / INDEX
    if page.is_file() and OWN in page.read_text(encoding="utf-8", errors="replace"):
        page.unlink()


def _entry(
    out: Path, name: str, measurements: Iterable[Measurement], mark: str, status: str, folder: Path | None = None
) -> IndexEntry:
    told = [m.doubt for m in measurements if m.doubt is not None]
    entropy = [d.entropy_inside for d in told if not isnan(d.entropy_inside)]
    dice = [d.predicted_dice for d in told if not isnan(d.predicted_dice)]
    flags = "; ".join(f"{m.structure}: {', '.join(m.flags)}" for m in measurements if m.flags)
    folders = [CaseFiles(out, name, flat).folder for flat in (False, True)] if folder is None else [folder]
    folder = next((folder for folder in folders if (folder / "preview.png").is_file()), None)
    place = "" if folder is None else folder.relative_to(out).as_posix()
    return IndexEntry(
        name,
        place if folder is not None and (folder / "report.html").is_file() else "",
        doubt=sum(entropy) / len(entropy) if entropy else None,
        predicted_dice=min(dice, default=None),
        flags=flags,
        warning=WARNINGS.get(mark, ""),
        status="kept" if status == "kept" else "done",  # a resumed run leaves the same page as an undisturbed one
        thumbnail=f"{place}/preview.png" if place else "",
    )
