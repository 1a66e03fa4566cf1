"""Early stopping: when validation has not improved for long, the run ends with the weights that were best."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ignite.engine import Engine, Events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monai.engines.workflow import Workflow
    from torch import Tensor, nn


class BestWeights:
    """A MONAI handler; it stands behind the validation. Without patience it does nothing.

    (ignite's EarlyStopping ends a run too, but keeps no weights, and MONAI's CheckpointSaver keeps them on disk only.)

    Args:
        model: that is validated.
        validator: whose key metric is judged.
        patience: epochs without a better one after which the run ends; None: it goes on to the end of its budget, and
            ends with the last weights.

    Attributes:
        weights: of the best epoch so far; None where there was none, or no patience.
    """

    def __init__(self, model: nn.Module, validator: Workflow, patience: int | None = None) -> None:
        self.model = model
        self.validator = validator
        self.patience = patience
        self.weights: dict[str, Tensor] | None = None
        self._epoch = -1

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if self.patience is not None:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self, self.patience)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"weights": self.weights, "epoch": self._epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.weights, self._epoch = state["weights"], int(state["epoch"])

    def __call__(self, engine: Engine, patience: int) -> None:
        """Keep the weights of a new best, or end the run."""
        best = int(self.validator.state.best_metric_epoch)
        if best != self._epoch and best == engine.state.epoch:
            self._epoch = best
            self.weights = {key: value.detach().cpu().clone() for key, value in self.model.state_dict().items()}
        elif self._epoch > 0 and engine.state.epoch - self._epoch >= patience:
            logging.getLogger(__name__).info(
                "no better validation since epoch %d: the run ends with the weights of that epoch", self._epoch
            )
            engine.terminate()
