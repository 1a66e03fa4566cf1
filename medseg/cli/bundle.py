"""`medseg bundle check BUNDLE`: does a bundle keep its promises."""

from __future__ import annotations

import typer

app = typer.Typer(help="Work on one bundle.", no_args_is_help=True)


@app.callback()
def bundle() -> None:
    """Work on one bundle."""
