"""How far the training at this site is, from the file that its process writes once a second (`executor`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE = "progress.json"


@dataclass(frozen=True)
class Progress:
    """One look.

    Args:
        run: name of the training.
        round: from 0.
        step: of the optimiser in this round.
        of: so many.
        loss: of that step, None where it is not finite.
    """

    run: str
    round: int
    step: int
    of: int
    loss: float | None

    def __str__(self) -> str:
        loss = "" if self.loss is None else f", loss {self.loss:.3f}"
        return f"{self.run}, round {self.round + 1}, step {self.step} of {self.of}{loss}"


def latest(work: Path) -> Progress | None:
    """Of the training that wrote last; None where none did, or its file is just being replaced.

    Args:
        work: folder with a folder for each training.
    """
    try:
        path = max(work.glob(f"*/{FILE}"), key=lambda one: one.stat().st_mtime_ns, default=None)
        if path is None:
            return None
        said = json.loads(path.read_text(encoding="utf-8"))
        loss = None if said["loss"] is None else float(said["loss"])
        return Progress(path.parent.name, int(said["round"]), int(said["step"]), int(said["of"]), loss)
    except (OSError, ValueError, KeyError, TypeError):
        return None
