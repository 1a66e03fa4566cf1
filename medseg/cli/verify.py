"""`medseg verify OUT`: are results as they were recorded?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options
from medseg.cli.console import show_json, show_lines, show_table


def verify(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", show_default=False, help="The folder of medseg predict, of one case, or a record.json."
        ),
    ],
    bundle: Annotated[
        str | None,
        typer.Option("-b", "--bundle", metavar="BUNDLE", show_default=False, help="Where the bundle is."),
    ] = None,
    input: Annotated[
        Path | None,
        typer.Option(
            "--input", metavar="PATH", show_default=False, help="Where the scans are; they are looked at then."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Compute every hash again that the records of OUT tell: outputs, tables, records, weights, and with --input the scans.

    Exit code 0: all is as it was recorded; 8: something was changed, is missing or was put there.
    """
    from medseg.workflows.verify import verify as run

    report = run(out, bundle=bundle, source=input)
    if json:
        show_json(report.to_json())
    if report.findings:
        rows = [(f.code, f.file, f.what, f.mend) for f in report.findings]
        show_table(("code", "file", "found", "what to do"), rows)
    count = f"{report.files} file{'s' * (report.files != 1)}"
    wrong = len(report.findings)
    show_lines([*report.notes, f"{count} as recorded" + (f", {wrong} finding{'s' * (wrong != 1)}" if wrong else "")])
    raise typer.Exit(report.exit_code)
