"""A moving average of the weights that can be gone on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ignite.engine import Events
from ignite.handlers import EMAHandler

if TYPE_CHECKING:
    from ignite.engine import Engine
    from torch import nn


class MovingAverage(EMAHandler):
    """ignite's moving average, whose momentum follows from the trainer's iteration.

    ignite's own counts its calls in a scheduler that no state dict reaches: a resumed run warms up anew.

    Args:
        model: whose weights are averaged; of a wrapper (`.module`) what it wraps.
        momentum: share of the newest weights.
        momentum_warmup: the share in the first iteration; None: `momentum`.
        warmup_iters: iterations until it is `momentum`, along a line.
    """

    def __init__(
        self, model: nn.Module, momentum: float = 0.002, momentum_warmup: float | None = None, warmup_iters: int = 0
    ) -> None:
        super().__init__(getattr(model, "module", model), momentum)
        self.momentum_warmup = momentum if momentum_warmup is None else momentum_warmup
        self.warmup_iters = warmup_iters

    def attach(self, engine: Engine, name: str = "ema_momentum", **how: Any) -> None:  # type: ignore[override]
        """Register with a trainer; `engine.state.<name>` is the momentum."""
        engine.add_event_handler(how.pop("event", Events.ITERATION_COMPLETED), self.update, name)

    def momentum_at(self, iteration: int) -> float:
        """The momentum in an iteration, from 1."""
        if not self.warmup_iters:
            return self.momentum
        reached = self.momentum_warmup
        reached += (self.momentum - self.momentum_warmup) * (iteration - 1) / max(1, self.warmup_iters - 1)
        return min(self.momentum, reached) if self.momentum >= self.momentum_warmup else max(self.momentum, reached)

    def update(self, engine: Engine, name: str = "ema_momentum") -> None:
        """Take the present weights in, with the momentum of the engine's iteration."""
        setattr(engine.state, name, self.momentum_at(engine.state.iteration))
        self._update_ema_model(engine, name)
