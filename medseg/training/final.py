"""The weights of a finished run, written whole or not at all."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from medseg.writers.atomic import atomic_write

if TYPE_CHECKING:
    from torch import nn

    from medseg.training.best import BestWeights


class FinalWeights:
    """A MONAI handler that writes a state dict when the run has come to its end.

    Args:
        save_dir: its folder.
        model: whose weights; the moving average.
        best: has better ones, where the run was to end early.
        filename: of the state dict.
    """

    #: Of several processes (`RankHandlers`).
    first_rank_only = True

    def __init__(
        self, save_dir: str, model: nn.Module, best: BestWeights | None = None, filename: str = "model.pt"
    ) -> None:
        self.path = Path(save_dir, filename)
        self.model = model
        self.best = best

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write them, from the first process only."""
        del engine
        if idist.get_rank() == 0:
            best = None if self.best is None else self.best.weights
            atomic_write(self.path, lambda path: torch.save(self.model.state_dict() if best is None else best, path))
            logging.getLogger(__name__).info("saved final weights: %s", self.path)
