"""`medseg view OUT [CASE]`: results in 3D Slicer, or in the browser where there is no Slicer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.console import show_lines


def view(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", show_default=False, help="The output folder of `medseg predict`.")
    ],
    case: Annotated[
        str | None, typer.Argument(metavar="CASE", show_default=False, help="Which case, where there are several.")
    ] = None,
    print_: Annotated[
        bool, typer.Option("--print", help="Print the path that would be opened, and open nothing.")
    ] = False,
) -> None:
    """Open a result in 3D Slicer, at its most uncertain place; in the browser where Slicer is not installed."""
    from medseg.workflows.view import open_result, what_to_view

    what = what_to_view(out, case)
    if what.note:
        show_lines([what.note])
    if print_:
        sys.stdout.write(f"{what.path}\n")
        return
    show_lines([f"opening {what.path}" + (" in 3D Slicer" if what.slicer else "")])
    open_result(what)
