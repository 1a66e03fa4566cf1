"""`medseg federate prepare PROJECT.yaml -o KITS`: a start-up kit each for the server, every site, every administrator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.console import show_json, show_lines, show_table
from medseg.cli.options import Json


def prepare(
    project: Annotated[
        Path,
        typer.Argument(
            metavar="PROJECT.yaml", show_default=False, help="Who trains together, as in project.example.yaml."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="KITS", show_default=False, help="Folder for the kits.")],
    bundle: Annotated[
        str | None,
        typer.Option(
            "-b", "--bundle", metavar="BUNDLE", show_default=False, help="The agreed one: kits carry its name and hash."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make the start-up kits of a project: certificates, addresses, and what each site allows.

    Run it again after adding a site or a person: kits that are there stay as they are.
    """
    from medseg.federated.kits.prepare import prepare as make

    made = make(project, out, bundle=bundle)
    if json:
        kits = [{"kind": kit.kind, "name": kit.name, "folder": str(kit.root)} for kit in made.kits]
        show_json(
            {"project": made.project.name, "kits": kits, "kept": list(made.kept), "promises": list(made.promises)}
        )
        return
    show_table(["", "name", "kit"], [(kit.kind, kit.name, kit.root) for kit in made.kits], title=made.project.name)
    if made.kept:
        show_lines([f"kept as they are: {', '.join(made.kept)}"])
    show_lines(made.promises)
    show_lines(
        [
            f"{out / 'authority'} holds every key: keep it, show it to nobody, and back it up",
            "send each kit so that nobody else can read it; README.txt in it says what to type",
        ]
    )
