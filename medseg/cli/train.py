"""`medseg train BUNDLE DATA -o RUN`: train a bundle's network on labelled cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.console import show_lines, show_table
from medseg.errors import UsageError


def train(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A shipped name or a bundle's folder.", show_default=False)
    ],
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder with imagesTr and labelsTr.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="RUN", help="Folder of the run.", show_default=False)],
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Stop after so many epochs.")] = None,
    loss: Annotated[str | None, typer.Option(help="One of the bundle's `losses`, such as tversky.")] = None,
    init: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="Start from this bundle's weights, as far as they fit.")
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            metavar="PART,PART", help="Parts that keep the weights of --init, such as encoder.", show_default=False
        ),
    ] = None,
    thaw: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Frozen parts learn too after this share of the budget; all at a tenth of the rate."
        ),
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(metavar="BUNDLE", help="Learn its probabilities too; several, or an ensemble, are averaged."),
    ] = None,
    temperature: Annotated[float, typer.Option(help="Of the teacher's and the student's probabilities.")] = 2.0,
    teacher_weight: Annotated[float, typer.Option(help="Share of the loss that the teacher has.")] = 0.5,
    pseudo: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Learn from unlabelled cases too: OUT of medseg predict --uncertainty."),
    ] = None,
    pseudo_weight: Annotated[float, typer.Option(help="Of an unlabelled case, beside 1 of a labelled one.")] = 0.5,
    smaller: Annotated[
        float | None, typer.Option(metavar="N", help="A network with N times fewer weights, such as a student's.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(metavar="K", help="Cross-validate: K runs in RUN/fold_k, an ensemble bundle in RUN.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(metavar="k", help="Of --folds this one alone, from 0.", show_default=False)
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="cpu, gpu16, gpu80 or a YAML file: device, workers, cache, memory."),
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="Tell MLflow too: URI of its store, or a folder.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in RUN.")] = False,
) -> None:
    """Train a copy of a bundle; RUN becomes a bundle itself, for `medseg predict -b RUN`."""
    if minutes is not None and epochs is not None:
        raise UsageError("MS-U102", "--minutes and --epochs were both given", mend="give one of them")
    if fold is not None and folds is None:
        raise UsageError("MS-U102", "--fold without --folds", mend="say how many there are: --folds 5")
    from medseg.training.cross_validation import train_folds
    from medseg.training.lessons import Lessons
    from medseg.training.plan.problems import COLUMNS, DatasetError
    from medseg.training.ranks import launched
    from medseg.training.train import train_bundle

    several = {} if folds is None else {"folds": folds, "fold": fold}
    try:
        run = (train_bundle if folds is None else train_folds)(
            bundle,
            data,
            out,
            minutes=minutes,
            epochs=epochs,
            loss=loss,
            init=init,
            freeze=[part.strip() for part in freeze.split(",")] if freeze else (),
            thaw=thaw,
            lessons=Lessons(tuple(teacher or ()), temperature, teacher_weight, pseudo, pseudo_weight),
            smaller=smaller,
            hardware=hardware,
            mlflow=mlflow,
            resume=resume,
            **several,
        )
    except KeyboardInterrupt:
        show_lines([_how_to_go_on(out)])
        raise
    except DatasetError as error:
        show_table(COLUMNS, [problem.row() for problem in error.problems], title=str(data))
        raise
    if launched()[0] == 0:
        show_lines([f"trained: use it with medseg predict -b {run}"])


def _how_to_go_on(out: Path) -> str:
    if any(out.rglob("models/resume_*.pt")):
        return f"stopped: go on with the same command and --resume; the checkpoint lies in {out}"
    return "stopped before the first checkpoint: nothing is kept"
