"""`medseg doctor`: is this machine ready, and what to type where it is not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from medseg.cli.console import show_json, show_lines, show_table
from medseg.cli.options import Json


def doctor(
    json: Json = False,
    sbom: Annotated[
        bool,
        typer.Option("--sbom", help="The software bill of materials (CycloneDX) on standard output, and no checks."),
    ] = False,
) -> None:
    """Check Python, torch, GPU, memory, codecs, 3D Slicer and bundles; each line ok, warn or fail with its mend."""
    if sbom:
        from medseg.workflows.bill import bill_of_materials

        show_json(bill_of_materials())
        return
    from medseg.workflows.doctor import examine
    from medseg.workflows.probe import probe

    checks = examine(probe())
    if json:
        show_json([asdict(check) for check in checks])
    else:
        show_table(["", "what", "found"], [(c.verdict, c.name, c.found) for c in checks])
        show_lines(f"{c.name} -> {c.mend}" for c in checks if c.mend)
    raise typer.Exit(int(any(check.verdict == "fail" for check in checks)))
