"""An evaluation as the page that a reader opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import medseg
from medseg.reports.calibration_figures import reliability_figure, risk_coverage_figure
from medseg.reports.curves import froc_figure, precision_recall_figure, svg
from medseg.reports.evaluation import EvaluationReport, Figure, Picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.workflows.evaluation.result import Evaluation
    from medseg.workflows.evaluation.together import Certainty


def report(found: Evaluation, pred: Path, ref: Path, pictures: Sequence[Picture]) -> EvaluationReport:
    """What report.html shows."""
    rules, total = found.protocol, len(found.pairs.pairs)
    facts = {
        "Predictions": pred.resolve().name,
        "References": found.pairs.calls.of().name(ref.resolve().name),
        "Cases": f"{total - len(found.failures)} scored of {total}",
        **({"Maps": "instances"} if rules.of_instances else {}),
        "Surfaces": f"definition \u201c{rules.definition}\u201d",
        "Protocol": rules.name,
        "Intervals": f"{100 * rules.level:g} % bootstrap, {rules.draws:,} draws of subjects, seed {rules.seed}",
        "Version": f"medseg {medseg.__version__}",
    }
    return EvaluationReport(
        title=f"Evaluation of {pred.resolve().name}",
        rows=found.rows,
        summary=found.summary,
        headline=rules.headline,
        facts=facts,
        missing=found.pairs.missing,
        extra=found.pairs.extra,
        failures=[(f.case, f.code, f"{f.what} -> {f.mend}") for f in found.failures],
        notes=found.notes,
        pictures=pictures,
        figures=[*curves(found), *figures(found.certainty)],
        pooled=found.intervals,
        comparison=found.comparison,
        groups=found.groups,
    )


def curves(found: Evaluation) -> list[Figure]:
    """Precision and recall, and FROC, where the maps hold instances."""
    if not found.curves:
        return []
    instances = "Instances of all cases together, by masks."
    return [
        Figure(
            "Precision and recall", instances, svg(precision_recall_figure({n: c[0] for n, c in found.curves.items()}))
        ),
        Figure("FROC", instances, svg(froc_figure({n: c[1] for n, c in found.curves.items()}))),
    ]


def figures(found: Certainty) -> list[Figure]:
    """The plots of calibration and of risk against coverage, where predictions came with maps of certainty."""
    out = []
    if found.calibration is not None:
        caption = "Voxels where prediction or reference is foreground, of all cases together."
        out.append(Figure("Calibration", caption, svg(reliability_figure(found.calibration.top))))
    if found.curve is not None:
        caption = "Mean risk of the cases kept when the most doubtful ones are handed to a reader."
        out.append(
            Figure("Risk and coverage", caption, svg(risk_coverage_figure(found.curve, risk_name="1 - mean Dice")))
        )
    return out
