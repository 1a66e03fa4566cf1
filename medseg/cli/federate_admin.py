"""`medseg federate submit|status|abort KIT`: a training begun; sites and jobs looked at; a job followed, stopped."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.console import show_json, show_lines, show_table
from medseg.cli.options import Json
from medseg.errors import UsageError

if TYPE_CHECKING:
    from nvflare.fuel.flare_api.flare_api import Session

    from medseg.federated.kits.admin import Job, State
    from medseg.federated.kits.kit import Kit

AdminKit = Annotated[Path, typer.Argument(metavar="KIT", show_default=False, help="An administrator's start-up kit.")]


Fetched = Annotated[
    Path | None,
    typer.Option(
        "-o", "--out", metavar="OUT", show_default=False, help="Wait, then fetch the model: OUT/global is a bundle."
    ),
]


def submit(
    kit: AdminKit,
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", show_default=False, help="What is trained; every site has the same.")
    ],
    name: Annotated[
        str, typer.Option("-n", "--name", metavar="RUN", show_default=False, help="Of this training, new for each.")
    ],
    algorithm: Annotated[str, typer.Option(help="fedavg, fedprox, fedopt, scaffold, or a YAML file.")] = "fedavg",
    rounds: Annotated[int | None, typer.Option(help="Exchanges; those of the algorithm without it.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="ID=VALUE", help="A plain value of train.json, such as learning_rate=0.001."),
    ] = None,
    init: Annotated[str, typer.Option(metavar="BUNDLE", help="Begin with a shipped bundle's weights.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with RUN from its last good round.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it ends.")] = False,
    out: Fetched = None,
    json: Json = False,
) -> None:
    """Begin a training at all connected sites. It carries the bundle's name and hash and plain values; no code."""
    from tempfile import TemporaryDirectory

    from medseg.federated.algorithm import load_algorithm
    from medseg.federated.job import job_folder
    from medseg.federated.kits import admin
    from medseg.federated.kits.kit import read_kit

    own = read_kit(kit, "admin")
    _fetchable(own, out)
    how = load_algorithm(algorithm, rounds=rounds)
    changes = dict(_pair(one) for one in change or ())
    with TemporaryDirectory() as folder:
        job = job_folder(
            Path(folder), bundle, how, run=name, overrides=changes, resume=resume, init=init, encrypted=own.encrypted
        )
        with admin.session(own) as speaking:
            number = admin.submit(speaking, job)
            show_lines([f"{number} {name}: submitted"])
            found = admin.follow(speaking, number, _line) if wait or out else admin.look(speaking, number)
            said = admin.said(speaking, number) if found.ended else []
            _fetch(speaking, found, out)
    if json:
        show_json({**asdict(found), "said": said})
    admin.require_completed(found, said)


def status(
    kit: AdminKit,
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", show_default=False, help="Its id; all jobs and sites without it.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job until it ends.")] = False,
    out: Fetched = None,
    json: Json = False,
) -> None:
    """Show the sites and jobs, or one job; exits 3 for a job that failed or was stopped."""
    from medseg.federated.kits import admin
    from medseg.federated.kits.kit import read_kit

    own = read_kit(kit, "admin")
    _fetchable(own, out)
    said: list[str] = []
    with admin.session(own) as speaking:
        if job is None:
            found = admin.state(speaking)
        else:
            found = admin.follow(speaking, job, _line) if wait or out else admin.look(speaking, job)
            said = admin.said(speaking, job)
            _fetch(speaking, found, out)
    if isinstance(found, admin.State):
        _show_state(own, found, json=json)
        return
    if json:
        show_json({**asdict(found), "said": said})
    elif not wait:
        seconds = f", {found.seconds}" if found.seconds and found.ended else ""
        show_lines([f"{found.id} {found.name}: {found.status}{seconds}", *said])
    admin.require_completed(found, said)


def abort(
    kit: AdminKit,
    job: Annotated[str, typer.Argument(metavar="JOB", show_default=False, help="Its id.")],
) -> None:
    """Stop a job at the server and at every site; what its rounds made so far stays on the server."""
    from medseg.federated.kits import admin
    from medseg.federated.kits.kit import read_kit

    with admin.session(read_kit(kit, "admin")) as speaking:
        admin.abort(speaking, job)
    show_lines([f"{job}: stopped"])


def _fetchable(kit: Kit, out: Path | None) -> None:
    if out is not None and kit.encrypted:
        mend = "leave -o out; every site has the model of all, a bundle, in its own KIT/medseg_work/RUN/global"
        raise UsageError(
            "MS-J147", "an encrypted training leaves its model at the sites alone", file=kit.root, mend=mend
        )


def _fetch(speaking: Session, job: Job, out: Path | None) -> None:
    from medseg.federated.kits import admin

    if out is not None and job.status == admin.COMPLETED:
        show_lines([f"the model of all sites: {admin.fetch_model(speaking, job.id, out)}"])


def _line(line: str) -> None:
    show_lines([line])


def _pair(text: str) -> tuple[str, object]:
    """`ID=VALUE` with the value as YAML reads it."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError("MS-J070", f"--set {text!r} has no =", mend="write it like --set learning_rate=0.001")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(
            "MS-J070", f"--set {text!r} has no plain value", mend="write it like --set patience=20"
        ) from error


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
