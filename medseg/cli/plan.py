"""`medseg plan DATA -o BUNDLE`: check a labelled dataset, and plan a bundle that `medseg train` can run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.console import show_json, show_lines, show_table, stderr
from medseg.cli.options import Json


def plan(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", show_default=False, help="Folder with images and labels, dataset.json, or a CSV list."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="BUNDLE", help="The new bundle.", show_default=False)],
    task: Annotated[str, typer.Option(help="segmentation, or instances (a number for each object).")] = "segmentation",
    memory: Annotated[str, typer.Option(help="What a training may take.")] = "8GB",
    channels: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Names of the channels in order, such as FLAIR,T1.")
    ] = None,
    subjects: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Columns case, subject and, if it is fixed, split.")
    ] = None,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Cases without any labelled voxel are meant.")
    ] = False,
    cascade: Annotated[
        bool | None,
        typer.Option(
            "--cascade/--no-cascade", help="Locate at low resolution, segment inside.", show_default="by its rule"
        ),
    ] = None,
    annotators: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Fuse label maps of several annotators (labelsTr_NAME, columns label_NAME): staple, dawid-skene, mean.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Plan a bundle: what the network sees, how it is built, trained and judged, and why.

    Checks the dataset first and names every problem in one table; nothing is written while it has a fault.
    BUNDLE/docs/plan.md says each decision with the numbers behind it.
    """
    from medseg.training.plan.plan import plan_bundle
    from medseg.training.plan.problems import COLUMNS, DatasetError

    names = tuple(name.strip() for name in channels.split(",")) if channels else ()
    try:
        with stderr().status("reading the cases") as status:

            def hear(done: int, of: int) -> None:
                status.update(f"read {done} of {of} cases")

            found = plan_bundle(
                data, out, task=task, memory=memory, channels=names, subjects=subjects, allow_empty=allow_empty,
                cascade=cascade, annotators=annotators, progress=hear,
            )  # fmt: skip
    except DatasetError as error:
        show_table(COLUMNS, [problem.row() for problem in error.problems], title=str(data))
        if json:
            show_json([vars(problem) for problem in error.problems])
        raise
    if found.notes:
        show_table(COLUMNS, [note.row() for note in found.notes], title="worth a look")
    show_table(("", "chosen", "why"), [(c.topic, c.value, c.why) for c in found.choices], title=str(out))
    if found.problems:
        rows = [("warn" if p.warning else "fail", p.code, p.file, p.message) for p in found.problems]
        show_table(("", "code", "file", "what"), rows, title="medseg bundle check")
    show_lines([f"next: medseg train {out} {found.data} -o RUN --minutes 60"])
    if json:
        show_json({"bundle": str(out), "data": str(found.data), "choices": [vars(c) for c in found.choices]})
