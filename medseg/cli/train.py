"""`medseg train BUNDLE DATA -o RUN`: train a bundle's network on labelled cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.console import show_lines
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
        typer.Option(
            metavar="BUNDLE", help="Learn its probabilities beside the labels; several, or an ensemble, are averaged."
        ),
    ] = None,
    pseudo: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Learn from unlabelled cases too: OUT of medseg predict --uncertainty."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in RUN.")] = False,
) -> None:
    """Train a copy of a bundle; RUN becomes a bundle itself, for `medseg predict -b RUN`."""
    if minutes is not None and epochs is not None:
        raise UsageError("MS-U102", "--minutes and --epochs were both given", mend="give one of them")
    from medseg.training.ranks import launched
    from medseg.training.train import train_bundle

    run = train_bundle(
        bundle,
        data,
        out,
        minutes=minutes,
        epochs=epochs,
        loss=loss,
        init=init,
        freeze=[part.strip() for part in freeze.split(",")] if freeze else (),
        thaw=thaw,
        teachers=teacher or (),
        pseudo=pseudo,
        resume=resume,
    )
    if launched()[0] == 0:
        show_lines([f"trained: use it with medseg predict -b {run}"])
