"""`medseg federate status|abort KIT`: what the server says of its sites and jobs; a job looked at, followed, stopped."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.console import show_json, show_lines, show_table
from medseg.cli.options import Json

if TYPE_CHECKING:
    from medseg.federated.admin import Job, State
    from medseg.federated.kit import Kit

AdminKit = Annotated[Path, typer.Argument(metavar="KIT", show_default=False, help="An administrator's start-up kit.")]


def status(
    kit: AdminKit,
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", show_default=False, help="Its id; all jobs and sites without it.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job until it ends.")] = False,
    json: Json = False,
) -> None:
    """Show the sites and jobs, or one job; exits 3 for a job that failed or was stopped."""
    from medseg.federated import admin
    from medseg.federated.kit import read_kit

    own = read_kit(kit, "admin")
    with admin.session(own) as speaking:
        if job is None:
            found = admin.state(speaking)
        else:
            found = admin.follow(speaking, job, show_job) if wait else admin.look(speaking, job)
    if isinstance(found, admin.State):
        _show_state(own, found, json=json)
        return
    if json:
        show_json(asdict(found))
    elif not wait:
        show_job(found)
    admin.require_completed(found)


def abort(
    kit: AdminKit,
    job: Annotated[str, typer.Argument(metavar="JOB", show_default=False, help="Its id.")],
) -> None:
    """Stop a job at the server and at every site; what its rounds made so far stays on the server."""
    from medseg.federated import admin
    from medseg.federated.kit import read_kit

    with admin.session(read_kit(kit, "admin")) as speaking:
        admin.abort(speaking, job)
    show_lines([f"{job}: stopped"])


def show_job(job: Job) -> None:
    """One line about a job."""
    seconds = f", {job.seconds}" if job.seconds and job.ended else ""
    show_lines([f"{job.id} {job.name}: {job.status}{seconds}"])


def _show_state(kit: Kit, found: State, *, json: bool) -> None:
    missing = [name for name in kit.sites if name not in found.sites]
    if json:
        show_json({**asdict(found), "missing": missing, "promises": list(kit.promises)})
        return
    rows = [("ok", name, f"heard of {seconds:.0f} s ago") for name, seconds in found.sites.items()]
    rows += [("warn", name, "not connected") for name in missing]
    show_table(["", "site", ""], rows, title=kit.project)
    show_table(["job", "name", "status", "submitted"], [(j.id, j.name, j.status, j.submitted) for j in found.jobs])
    show_lines(kit.promises)
