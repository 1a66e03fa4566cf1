"""`medseg demo`: the main job, offline, on real anatomy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.console import show_lines, stderr


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="Folder for the results.")] = Path("demo_out"),
) -> None:
    """Segment both hippocampi of the MNI152 brain template with the shipped bundle, without a network connection."""
    from medseg.workflows.demo import run_demo, what_to_open
    from medseg.workflows.reporter import ConsoleReporter

    report = run_demo(out, progress=ConsoleReporter(stderr()))
    show_lines(what_to_open(report))
    raise typer.Exit(report.exit_code)
