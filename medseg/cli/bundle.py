"""`medseg bundle check|inspect|trust|import`: does a bundle keep its promises, may its code run; an nnU-Net model as one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.console import show_json, show_lines, show_table, stderr
from medseg.cli.options import Json
from medseg.errors import BundleError

app = typer.Typer(
    help="Check a bundle, look what it asks for, trust one, or make one of a trained nnU-Net model.",
    no_args_is_help=True,
)

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
def inspect(bundle: Bundle, json: Json = False) -> None:
    """Say what a bundle would run, without running any of it; exits 4 when medseg predict would refuse it.

    Lists the components, expressions, scripts and weights that it holds, and its files' SHA-256 with --json.
    """
    from medseg.bundle.verdict import inspect_bundle

    found = inspect_bundle(bundle)
    if json:
        show_json(found.to_json())
    else:
        shown = {True: "ok", False: "refused"}[found.usable]
        rows = [
            (shown if name == "verdict" else "", name, value)
            for name, value in {
                "verdict": f"{found.word}: {found.why}",
                "components": f"{sum(found.targets.values())} of {len(found.targets)} kinds",
                "expressions": found.expressions,
                "imports": ", ".join(found.imports),
                "scripts": ", ".join(found.scripts),
                "weights": "\n".join(f"{file} ({form})" for file, form in found.weights.items()),
                "files": len(found.hashes),
            }.items()
            if value not in ("", 0)
        ]
        show_table(["", "what", "found"], rows, title=f"{found.root} {found.version}")
        if found.refused:
            show_table(
                ["config", "not done without trust"], [(f, row) for f, rows in found.refused.items() for row in rows]
            )
        if not found.usable:
            show_lines([f"read its configs and scripts, and if you trust them type: medseg bundle trust {found.root}"])
    raise typer.Exit(0 if found.usable else BundleError.exit_code)


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


@app.command("import")
def import_(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            show_default=False,
            help="Where nnU-Net trained into: plans.json, dataset.json, fold_0, ...",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="BUNDLE", help="The new bundle.", show_default=False)],
    folds: Annotated[
        str | None, typer.Option(metavar="N,N", help="Folds to import, the first to predict with.", show_default="all")
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="final, best or latest.")] = "final",
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="What it was trained with (imagesTr, labelsTr): measures its domain."),
    ] = None,
    json: Json = False,
) -> None:
    """Turn a trained nnU-Net v2 model into a bundle: its folds become the ensemble, its preprocessing is carried over.

    Checkpoints are read without running any code that they hold.
    """
    from medseg.bundle.nnunet import import_nnunet

    wanted = tuple(name.strip() for name in folds.split(",") if name.strip()) if folds else ()
    with stderr().status("reading the model") as status:

        def hear(done: int, of: int) -> None:
            status.update(f"measured {done} of {of} training cases")

        found = import_nnunet(folder, out, folds=wanted, checkpoint=checkpoint, data=data, progress=hear)
    if found.problems:
        rows = [("warn" if p.warning else "fail", p.code, p.file, p.message) for p in found.problems]
        show_table(["", "code", "file", "what"], rows, title="medseg bundle check")
    shown = ", ".join(found.structures[:8]) + (
        f" and {len(found.structures) - 8} more" if len(found.structures) > 8 else ""
    )
    doubt = " --uncertainty ensemble" if len(found.folds) > 1 else ""
    show_lines(
        [
            f"{out}: {found.trainer}, {found.configuration}, fold {', '.join(found.folds)}; finds {shown}",
            f"next: medseg predict SCANS -b {out} -o OUT{doubt}",
        ]
    )
    if json:
        show_json(
            {
                "bundle": str(out),
                "configuration": found.configuration,
                "trainer": found.trainer,
                "folds": list(found.folds),
                "structures": list(found.structures),
                "problems": [asdict(problem) for problem in found.problems],
            }
        )
