"""`medseg rank POOL -b BUNDLE -o OUT`: which unlabelled cases to label next."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli import options
from medseg.cli.console import show_json, show_lines, show_table, stderr

if TYPE_CHECKING:
    from medseg.workflows.rank import RankReport

#: Rows of the table on the screen; the files have all.
SHOWN = 20


def rank(
    pool: Annotated[
        Path,
        typer.Argument(
            metavar="POOL",
            show_default=False,
            help="Unlabelled cases: a folder, an MSD dataset.json, an nnU-Net imagesTr, or a CSV/JSON list.",
        ),
    ],
    out: options.Out,
    bundle: options.BundleOrRun,
    uncertainty: Annotated[
        str | None,
        typer.Option(
            metavar="mc:T|tta|ensemble|ensemble+tta",
            show_default=False,
            help="How doubt is found; the first that the bundle can do of mc, ensemble and tta.",
        ),
    ] = None,
    by: Annotated[
        str, typer.Option("--by", metavar="entropy|mutual-information|disagreement", help="What counts as doubt.")
    ] = "entropy",
    first: Annotated[
        int | None, typer.Option("--first", metavar="N", show_default=False, help="List only the first N.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    threads: options.Threads = None,
    series: options.Series = None,
    assume_orientation: options.AssumeOrientation = None,
    allow_gaps: options.AllowGaps = False,
    nonfinite: options.Nonfinite = "refuse",
    max_voxels: options.MaxVoxels = 2**31,
    outside_domain: Annotated[
        bool, typer.Option("--outside-domain", help="Rank scans unlike the training data too, and mark them.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Look only at cases that are new; rank all again, also by something else.")
    ] = False,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    case_id: options.CaseId = "auto",
    case_key: options.CaseKey = None,
    json: options.Json = False,
) -> None:
    """Put unlabelled cases in the order in which labelling them teaches a bundle most.

    First what is most in doubt, then what is in doubt and unlike the cases before. OUT/rank.html shows them.
    """
    reading = options.read_options(series, assume_orientation, allow_gaps, nonfinite, strict, max_voxels)
    from medseg.workflows.rank import rank as run
    from medseg.workflows.reporter import ConsoleReporter

    try:
        report = run(
            pool,
            bundle,
            out,
            uncertainty=uncertainty,
            by=by,
            first=first,
            seed=seed,
            device=device,
            threads=threads,
            options=reading,
            outside_domain=outside_domain,
            resume=resume,
            overwrite=overwrite,
            case_id=case_id,
            case_key=case_key,
            progress=ConsoleReporter(stderr()),
        )
    except KeyboardInterrupt:
        show_lines(["what was looked at is kept: the same command with --resume does the others"])
        raise
    _show(report)
    if json:
        show_json(report.to_json())
    raise typer.Exit(report.exit_code)


def _show(report: RankReport) -> None:
    rows = [(r.rank, r.case, f"{r.score:.3f}", _number(r.diversity), r.why) for r in report.ranked[:SHOWN]]
    if rows:
        show_table(("rank", "case", "score", "distance", "why"), rows)
    left = len(report.ranked) - SHOWN
    more = [f"{left} more in {report.out / 'rank.csv'}"] if left > 0 else []
    good = sum(case.failure is None for case in report.cases)
    last = f"{good} of {len(report.cases)} cases looked at: open {report.out / 'rank.html'}. For research use only."
    show_lines([*more, last])


def _number(value: float) -> str:
    return "" if isnan(value) else f"{value:.2f}"
