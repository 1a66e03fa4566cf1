"""`medseg federate`: train one bundle at several hospitals; no image moves."""

from __future__ import annotations

import typer

app = typer.Typer(help="Train one bundle at several sites; images stay where they are.", no_args_is_help=True)


@app.callback()
def federate() -> None:
    """Train one bundle at several sites; images stay where they are."""
