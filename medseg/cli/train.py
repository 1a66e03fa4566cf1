"""`medseg train BUNDLE DATA -o RUN`: train a bundle's network on labelled cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.errors import UsageError


def train(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.", show_default=False)],
    data: Annotated[Path, typer.Argument(help="Labelled cases: MSD, nnU-Net or a list.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="RUN", help="Folder of the run.", show_default=False)],
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Stop after so many epochs.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in RUN.")] = False,
) -> None:
    """Train a bundle's network; the best checkpoint and the scores lie in RUN."""
    if minutes is not None and epochs is not None:
        raise UsageError("MS-U102", "--minutes and --epochs were both given", mend="give one of them")
    from medseg.training.train import train_bundle

    train_bundle(bundle, data, out, minutes=minutes, epochs=epochs, resume=resume)
