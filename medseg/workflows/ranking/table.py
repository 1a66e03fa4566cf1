"""What a ranking leaves on the disk: rank.csv, rank.html, failures.csv and record.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isnan, nan
from typing import TYPE_CHECKING

import numpy as np

from medseg.reports.rank import RankEntry, rank_html
from medseg.workflows import record as records
from medseg.workflows.layout import FAILURES
from medseg.workflows.layout import RECORD as RUN_RECORD
from medseg.workflows.ranking.look import PREVIEW
from medseg.workflows.ranking.measures import CRITERIA
from medseg.workflows.ranking.order import teaching_order
from medseg.workflows.ranking.why import reasons
from medseg.workflows.stage import WARNINGS
from medseg.workflows.summary import FAILURE_COLUMNS
from medseg.writers.atomic import write_json, write_text
from medseg.writers.tables import csv_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.workflows.outcome import CaseReport
    from medseg.workflows.ranking.look import How, Look
    from medseg.workflows.ranking.measures import Measures

TABLE, PAGE = "rank.csv", "rank.html"
COLUMNS = (
    "rank", "case", "score", "entropy", "mutual_information", "disagreement", "diversity", "why", "nearest",
    "foreground_ml", "outside_domain", "images",
)  # fmt: skip
#: Words of `--by` -> how a page calls them.
TITLES = {"entropy": "Entropy", "mutual-information": "Mutual information", "disagreement": "Disagreement"}


@dataclass(frozen=True)
class RankedCase:
    """One row of rank.csv.

    Args:
        rank: from 1: label this one first.
        case: its name.
        score: the measure that ranks, in [0, 1].
        measures: all of them.
        diversity: distance to `nearest`, in standard deviations of the pool; NaN for the first case.
        nearest: the most similar case ranked before.
        why: in a few words.
        mark: how it stands to the training data.
        images: where the scan lies.
    """

    rank: int
    case: str
    score: float
    measures: Measures
    diversity: float = nan
    nearest: str = ""
    why: str = ""
    mark: str = "no"
    images: tuple[str, ...] = ()

    def row(self) -> dict[str, object]:
        """As one row, keys as in `COLUMNS`."""
        return {
            "rank": self.rank,
            "case": self.case,
            "score": round(self.score, 6),
            **{key: round(value, 6) for key, value in asdict(self.measures).items()},
            "diversity": "" if isnan(self.diversity) else round(self.diversity, 6),
            "why": self.why,
            "nearest": self.nearest,
            "outside_domain": self.mark,
            "images": "; ".join(self.images),
        }


def ranked(looks: Sequence[Look], by: str, first: int | None = None) -> list[RankedCase]:
    """The pool in the order in which labelling it teaches most.

    Args:
        looks: at every case, in any order.
        by: one of `CRITERIA`.
        first: how many; None: all.
    """
    known = {look.name: look for look in looks}
    scores = [float(getattr(look.measures, CRITERIA[by])) for look in looks]
    features = np.stack([look.features for look in looks]) if looks else np.empty((0, 0))
    places = teaching_order([look.name for look in looks], scores, features)
    why = reasons(places, {name: look.measures for name, look in known.items()})
    rows = [
        RankedCase(
            number,
            place.name,
            place.score,
            known[place.name].measures,
            place.distance,
            place.nearest,
            words,
            known[place.name].mark,
            known[place.name].images,
        )
        for number, (place, words) in enumerate(zip(places, why, strict=True), 1)
    ]
    return rows[:first]


def write_rank(
    out: Path,
    rows: Sequence[RankedCase],
    looks: Sequence[Look],
    reports: Sequence[CaseReport],
    how: How,
    state: str,
    *,
    by: str,
    pool: int,
) -> None:
    """Write the four files, each atomically; at the start of a run the record alone.

    Args:
        out: the output folder.
        rows: from `ranked`.
        looks: at every case that could be looked at.
        reports: of every case that is over.
        how: of the run.
        state: 'running', 'done' or 'interrupted'.
        by: one of `CRITERIA`.
        pool: how many cases there are.
    """
    if state != "running":
        failures = [report.failure for report in reports if report.failure]
        write_text(out / TABLE, csv_text(COLUMNS, [row.row() for row in rows]))
        failed = [{key: value for key, value in asdict(failure).items() if key != "memory"} for failure in failures]
        write_text(out / FAILURES, csv_text(FAILURE_COLUMNS, failed))
        told = [(failure.case, f"{failure.code} {failure.what} -> {failure.mend}") for failure in failures]
        lede = _lede(len(rows), len(looks), pool, how, state, by)
        write_text(out / PAGE, rank_html([_entry(row) for row in rows], lede=lede, by=TITLES[by], failed=told))
    write_json(
        out / RUN_RECORD,
        {
            "schema": records.SCHEMA,
            "notice": records.RESEARCH,
            "state": state,
            "created": records.now(),
            "versions": records.versions(),
            "settings": how.fixed,
            "device": how.device,
            "outside_domain_allowed": how.outside_domain,
            "by": by,
            "ranked": [row.case for row in rows],
            "cases": {report.name: report.status for report in reports},
        },
    )


def _entry(row: RankedCase) -> RankEntry:
    return RankEntry(
        row.case,
        row.why,
        {title: getattr(row.measures, CRITERIA[word]) for word, title in TITLES.items()},
        row.diversity,
        row.images,
        WARNINGS.get(row.mark, ""),
        f"{row.case}/{PREVIEW}",
    )


def _lede(shown: int, looked: int, pool: int, how: How, state: str, by: str) -> str:
    count = f"{shown} of {pool} case{'s' * (pool != 1)}" if shown < pool else f"{pool} case{'s' * (pool != 1)}"
    bundle, method = how.bundle, how.method
    known = f"; {pool - looked} not looked at" if looked < pool else ""
    stopped = "; interrupted" if state != "done" else ""
    doubt = TITLES[by].lower()
    return f"{count}, by {doubt} of {bundle.name} {bundle.version} ({method.words}) and by difference{known}{stopped}."
