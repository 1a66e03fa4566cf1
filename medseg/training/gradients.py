"""Keep one bad step from ruining a training: clip the gradient's norm, and skip steps that are not finite.

A single NaN in a gradient spreads to every weight at the next step. It happens in mixed precision, and in bfloat16
convolutions over thin maps on CPUs (`medseg.training.precision.exact_in_thin_maps`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from monai.engines.utils import IterationEvents

from medseg.errors import MedsegError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ignite.engine import Engine
    from torch import nn


class GradientGuard:
    """A MONAI handler between the backward pass and the optimizer's step.

    Args:
        network: whose gradients are guarded.
        max_norm: larger gradients are scaled down to this norm over all weights (Pascanu et al., ICML 2013).
        patience: so many steps in a row may be skipped before the run is ended.

    Attributes:
        skipped: steps skipped so far.
    """

    def __init__(self, network: nn.Module, max_norm: float = 12.0, patience: int = 50) -> None:
        self.network = network
        self.max_norm = max_norm
        self.patience = patience
        self.skipped = 0
        self._in_a_row = 0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.skipped, self._in_a_row = int(state["skipped"]), int(state["in_a_row"])

    def __call__(self, engine: Engine) -> None:
        """Clip, or drop all gradients of this step so that the optimizer leaves every weight as it is.

        Where gradients of several batches are added up, only their sum is looked at.

        Raises:
            MedsegError: MS-T107 too many steps in a row had to be skipped.
        """
        if not steps_now(engine):
            return
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)
        if torch.isfinite(norm):
            self._in_a_row = 0
            return
        self.network.zero_grad(set_to_none=True)
        self.skipped += 1
        self._in_a_row += 1
        logging.getLogger(__name__).warning("step %d skipped: its gradient is not finite", engine.state.iteration)
        if self._in_a_row >= self.patience:
            raise MedsegError(
                "MS-T107",
                f"{self._in_a_row} steps in a row had no finite gradient",
                mend="lower learning_rate in train.json, and look for scans with extreme values",
            )


def steps_now(engine: Engine) -> bool:
    """Whether the optimizer steps in this iteration of MONAI's trainer, which may add up gradients first."""
    every = getattr(engine, "accumulation_steps", 1)
    length = engine.state.epoch_length
    done = engine.state.iteration if length is None else (engine.state.iteration - 1) % length + 1
    return done % every == 0 or done == length
