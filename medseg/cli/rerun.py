"""`medseg rerun RECORD`: results made again, and compared byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options
from medseg.cli.console import show_json, show_lines, show_table, stderr


def rerun(
    record: Annotated[
        Path,
        typer.Argument(
            metavar="RECORD", show_default=False, help="A record.json of a case or of a run, or the folder that has it."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="OUT", show_default=False, help="Keep the new results in this folder."),
    ] = None,
    input: Annotated[
        Path | None,
        typer.Option(
            "--input", metavar="PATH", show_default=False, help="Where the scans are; found by their content."
        ),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option("-b", "--bundle", metavar="BUNDLE", show_default=False, help="Where the bundle is."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="DEVICE", show_default=False, help="Another device than the record's."),
    ] = None,
    case_key: Annotated[
        Path | None,
        typer.Option("--case-key", metavar="FILE", show_default=False, help="The key of the pseudonyms."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Make the results of RECORD again from the same input, bundle and versions, and compare them byte for byte.

    Exit code 0: every output is the same; 8: one is not, or the input, the bundle or the versions are others.
    """
    from medseg.workflows.reporter import ConsoleReporter
    from medseg.workflows.rerun import rerun as run

    report = run(
        record,
        out,
        source=input,
        bundle=bundle,
        device=device,
        case_key=case_key,
        progress=ConsoleReporter(stderr()),
    )
    if json:
        show_json(report.to_json())
    rows = []
    for case in report.cases:
        verdict = "failed" if case.failure else "differs" if case.differing else "equal"
        rows.append((case.name, verdict, case.failure or ", ".join(case.differing) or f"{len(case.equal)} files"))
    show_table(("case", "result", "outputs"), rows)
    show_lines(report.notes)
    raise typer.Exit(report.exit_code)
