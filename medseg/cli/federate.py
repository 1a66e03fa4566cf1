"""`medseg federate`: train one bundle at several hospitals; no image moves."""

from __future__ import annotations

import typer

from medseg.cli import (
    federate_admin,
    federate_audit,
    federate_join,
    federate_key,
    federate_prepare,
    federate_simulate,
    federate_stats,
)

app = typer.Typer(help="Train one bundle at several sites; images stay where they are.", no_args_is_help=True)


@app.callback()
def federate() -> None:
    """Train one bundle at several sites; images stay where they are."""


app.command()(federate_simulate.simulate)
app.command()(federate_stats.stats)
app.command()(federate_prepare.prepare)
app.command()(federate_key.key)
app.command()(federate_join.join)
app.command()(federate_join.serve)
app.command()(federate_admin.submit)
app.command()(federate_admin.status)
app.command()(federate_admin.abort)
app.command()(federate_audit.audit)
