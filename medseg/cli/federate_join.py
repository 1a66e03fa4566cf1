"""`medseg federate join KIT --data DIR` at the hospital, and `medseg federate serve KIT` on the server."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.console import show_json, show_lines, show_table, stderr
from medseg.cli.options import Json

Kit = Annotated[Path, typer.Argument(metavar="KIT", show_default=False, help="The start-up kit's folder.")]


def join(
    kit: Kit,
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="DIR", show_default=False, help="This site's cases (imagesTr, labelsTr); told to nobody."
        ),
    ],
    bundle: Annotated[
        str | None,
        typer.Option(
            "-b",
            "--bundle",
            metavar="BUNDLE",
            show_default=False,
            help="Its folder, where it does not come with medseg.",
        ),
    ] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="Test the others' models here, train nothing.")] = False,
    consortium: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="What medseg federate stats wrote for all sites."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Look at everything, start nothing.")] = False,
    json: Json = False,
) -> None:
    """Look whether this machine and its data are ready, then be the site until Ctrl-C.

    What is looked at: kit, certificate, clock, the server's name and port, mutual TLS, disk, memory, bundle, and the data
    beside what the others have (a picture, KIT/medseg_site.png).
    """
    from medseg.federated.kits.join import be_site, ready, require_ready, site_bundle, write_site_file
    from medseg.federated.kits.kit import read_kit

    own = read_kit(kit, "site")
    root = site_bundle(own, bundle)
    with stderr().status("looking") as status:

        def hear(done: int, of: int) -> None:
            status.update(f"looked at {done} of {of} cases")

        checks = ready(own, data, root, held_out=held_out, consortium=consortium, progress=hear)
    if json:
        show_json([asdict(one) for one in checks])
    else:
        show_table(["", "what", "found"], [(one.verdict, one.name, one.found) for one in checks], title=own.name)
        show_lines(f"{one.name} -> {one.mend}" for one in checks if one.mend)
    require_ready(checks, own)
    written = write_site_file(own, data, root, held_out=held_out)
    if check:
        return
    show_lines([f"{own.name} takes part in {own.project} (its data: {written}). Ctrl-C ends it."])
    with stderr().status("waiting for a training") as status:
        be_site(own, lambda line: show_lines([f"{own.name}: {line}"]), status.update)


def serve(
    kit: Kit,
    bundle: Annotated[
        str | None,
        typer.Option(
            "-b",
            "--bundle",
            metavar="BUNDLE",
            show_default=False,
            help="Its folder, where it does not come with medseg.",
        ),
    ] = None,
) -> None:
    """Be the server of a project until Ctrl-C."""
    from medseg.bundle.shipped import find_bundle
    from medseg.federated.kits.join import be_server, write_site_file
    from medseg.federated.kits.kit import read_kit

    own = read_kit(kit, "server")
    if bundle is not None:
        write_site_file(own, None, find_bundle(bundle))
    show_lines([f"{own.project}: listening on port {own.port} for {', '.join(own.sites)}. Ctrl-C ends it."])
    be_server(own, lambda line: show_lines([f"server: {line}"]))
