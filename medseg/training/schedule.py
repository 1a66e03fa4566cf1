"""A learning-rate schedule that ends with the budget, whether that is epochs or minutes.

On a shared or slow machine nobody knows how many epochs an hour holds. A schedule by elapsed time ends at
its smallest rate in any case, and a resumed run goes on where it stopped.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.optim import Optimizer


class BudgetedSchedule:
    """Linear warm-up, then a half cosine to zero (Loshchilov and Hutter, ICLR 2017), over the whole budget.

    A MONAI handler: it sets the rate before every iteration and ends the run when the budget is spent.

    Args:
        optimizer: its present rates are the largest ones.
        minutes: budget of training time, validation included; None: until the trainer's last epoch.
        warmup: share of the budget in which the rate rises from zero.
    """

    def __init__(self, optimizer: Optimizer, minutes: float | None = None, warmup: float = 0.02) -> None:
        self.optimizer = optimizer
        self.minutes = minutes
        self.warmup = warmup
        self.largest = [group["lr"] for group in optimizer.param_groups]
        self._spent_s = 0.0
        self._started: float | None = None

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._stop_when_spent)
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_rate)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop_when_spent)

    @property
    def spent_s(self) -> float:
        """Seconds of the budget that are spent, earlier runs that were resumed included."""
        return self._spent_s + (0.0 if self._started is None else time.monotonic() - self._started)

    def fraction(self, engine: Engine) -> float:
        """Share of the budget that is spent, in [0, 1]."""
        if self.minutes is not None:
            # One clock for all processes: two that end at different iterations would wait for each other for ever.
            spent_s: Any = self.spent_s if idist.get_world_size() == 1 else idist.broadcast(self.spent_s, src=0)
            self.share = min(1.0, spent_s / (60.0 * self.minutes))
        else:
            total = (engine.state.max_epochs or 1) * (engine.state.epoch_length or 1)
            self.share = min(1.0, (engine.state.iteration - 1) / total)
        return self.share

    def factor(self, fraction: float) -> float:
        """The rate at this share of the budget, relative to the largest."""
        if fraction < self.warmup:
            return max(fraction / self.warmup, 0.01)
        return 0.5 * (1.0 + math.cos(math.pi * (fraction - self.warmup) / (1.0 - self.warmup)))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a resumed run goes on with the same schedule."""
        return {"spent_s": self.spent_s}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._spent_s = float(state["spent_s"])
        if self._started is not None:  # what passed since the run began was spent on restoring it
            self._started = time.monotonic()

    def _start(self, engine: Engine) -> None:
        del engine
        self._started = time.monotonic()

    def _set_rate(self, engine: Engine) -> None:
        factor = self.factor(self.fraction(engine))
        for group, largest in zip(self.optimizer.param_groups, self.largest, strict=True):
            group["lr"] = largest * factor

    def _stop_when_spent(self, engine: Engine) -> None:
        if self.minutes is not None and self.fraction(engine) >= 1.0:
            engine.terminate()
