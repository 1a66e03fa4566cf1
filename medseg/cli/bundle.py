"""`medseg bundle check|trust BUNDLE`: does a bundle keep its promises, and may its code run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.console import show_json, show_lines, show_table
from medseg.cli.options import Json
from medseg.errors import BundleError

app = typer.Typer(help="Check a bundle, or trust one.", no_args_is_help=True)

Bundle = Annotated[
    str, typer.Argument(metavar="BUNDLE", show_default=False, help="A bundle's folder or a shipped name.")
]


@app.command()
def check(bundle: Bundle, json: Json = False) -> None:
    """List every promise that a bundle does not keep; exits 4 when one would stop it from working."""
    from medseg.bundle.check import check_bundle

    problems = check_bundle(bundle)
    if json:
        show_json([asdict(problem) for problem in problems])
    elif problems:
        rows = [("warn" if p.warning else "fail", p.code, p.file, p.message) for p in problems]
        show_table(["", "code", "file", "what"], rows)
    else:
        show_lines([f"{bundle}: ok"])
    raise typer.Exit(0 if all(problem.warning for problem in problems) else BundleError.exit_code)


@app.command()
def trust(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", show_default=False, help="The bundle's folder.")],
) -> None:
    """Allow a bundle to run its own code, as its files are now; a later change of any of them withdraws it.

    A config can run any Python. Read it first.
    """
    from medseg.bundle.shipped import find_bundle
    from medseg.bundle.trust import trust_bundle

    root = find_bundle(bundle)
    show_lines([f"trusted {root} as it is now ({len(trust_bundle(root))} files)"])
