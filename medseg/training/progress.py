"""What a run tells while it goes on: on the screen, in TensorBoard's events, as curves and a table."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Engine, Events

from medseg.reports.training import write_training
from medseg.training.time_left import TimeLeft, in_words
from medseg.writers.tensorboard import EventFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from monai.engines.workflow import Workflow

    from medseg.training.schedule import BudgetedSchedule

#: Seconds between two updates of the line on a terminal, and between two pictures of the curves.
_LINE, _PICTURE = 0.5, 30.0
#: Steps between two losses in TensorBoard.
_EVERY = 10


class Progress:
    """A MONAI handler that says how a training goes; it stands behind the validation and before the checkpoints.

    On a terminal one line is kept up to date: epoch, step, loss, seconds a step, time left. Of every epoch that is
    validated, and of others once a minute, a line stays, with the score of every structure. TensorBoard's events
    (`tensorboard --logdir RUN/training`), `history.csv`, `curves.png` and `curves.html` lie in `folder`.

    Args:
        folder: of the files; None: none are written.
        schedule: knows how much of the budget is spent.
        validator: whose scores are told.
        labels: of the structures, as in the bundle: `{"name": ...}` each.
    """

    #: Of several processes (`RankHandlers`).
    first_rank_only = True

    def __init__(
        self,
        folder: str | None = None,
        schedule: BudgetedSchedule | None = None,
        validator: Workflow | None = None,
        labels: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.folder = None if folder is None else Path(os.path.normpath(folder))
        self.schedule = schedule
        self.validator = validator
        self.names = [str(one["name"]) for one in labels]
        self.rows: list[dict[str, float]] = []
        self._losses: list[float] = []
        self._events: EventFile | None = None
        self._left = TimeLeft()
        self._shown = self._told = self._drawn = self._begun = 0.0
        self._minutes = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        engine.add_event_handler(Events.COMPLETED, self._end)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the rows so far, the losses of an epoch that is not over, minutes."""
        return {"rows": [dict(row) for row in self.rows], "losses": list(self._losses), "minutes": self._spent()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.rows = [dict(row) for row in state["rows"]]
        self._losses = list(state["losses"])
        self._minutes = float(state["minutes"])
        self._begun = time.monotonic()

    def _start(self, engine: Engine) -> None:
        del engine
        self._begun = self._told = time.monotonic()
        self._left = TimeLeft()

    def _spent(self) -> float:
        """Minutes, earlier parts of a run that was resumed included."""
        return self._minutes + (time.monotonic() - self._begun) / 60.0 if self._begun else self._minutes

    def _after_step(self, engine: Engine) -> None:
        loss = _loss(engine)
        self._losses.append(loss)
        if self.schedule is not None:
            self._left.tell(self.schedule.share, time.monotonic())
        step = engine.state.iteration
        if self.folder is not None:
            if self._events is None:  # not before the run knows from which step it goes on
                self._events = EventFile(self.folder, step)
            if step % _EVERY == 0:
                self._events.add(step, {"loss/step": loss, "rate": self._rate()})
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._shown >= _LINE:
            self._shown = now
            sys.stderr.write(f"\r\x1b[K{self._head(engine)}  loss {self._mean():.4f}{self._rest()}")
            sys.stderr.flush()

    def _after_epoch(self, engine: Engine) -> None:
        scores = self._scores(engine)
        row = {
            "epoch": float(engine.state.epoch),
            "step": float(engine.state.iteration),
            "minutes": self._spent(),
            "rate": self._rate(),
            "loss": self._mean(),
        }
        self.rows.append(row | scores)
        self._losses = []
        if self._events is not None:
            told = {f"validation/{name}": value for name, value in scores.items()}
            self._events.add(engine.state.iteration, {"loss/epoch": row["loss"]} | told)
        now = time.monotonic()
        if scores or now - self._told >= 60.0:
            self._told = now
            found = "".join(f"  {name} {value:.3f}" for name, value in scores.items())
            clear = "\r\x1b[K" if sys.stderr.isatty() else ""
            sys.stderr.write(f"{clear}{self._head(engine)}  loss {row['loss']:.4f}{found}{self._rest()}\n")
            sys.stderr.flush()
        if now - self._drawn >= _PICTURE:
            self._draw()

    def _end(self, engine: Engine) -> None:
        del engine
        self._draw()

    def _draw(self) -> None:
        if self.folder is not None and self.rows:
            write_training(self.folder, self.rows, f"Training of {self.folder.resolve().parent.name}")
        self._drawn = time.monotonic()

    def _head(self, engine: Engine) -> str:
        state = engine.state
        of = f"/{state.max_epochs}" if self.schedule is None or self.schedule.minutes is None else ""
        length = state.epoch_length or 0
        within = (state.iteration - 1) % length + 1 if length else state.iteration
        return f"epoch {state.epoch}{of}  step {within}/{length}"

    def _rest(self) -> str:
        left = self._left.seconds()
        return "" if left is None else f"  {in_words(left)} left"

    def _rate(self) -> float:
        return math.nan if self.schedule is None else float(self.schedule.optimizer.param_groups[0]["lr"])

    def _mean(self) -> float:
        return sum(self._losses) / len(self._losses) if self._losses else math.nan

    def _scores(self, engine: Engine) -> dict[str, float]:
        """The validator's metrics, where it has just run, and of its key metric every structure's mean."""
        if self.validator is None or self.validator.state.epoch != engine.state.epoch:
            return {}
        state = self.validator.state
        found = {name: float(value) for name, value in state.metrics.items() if _is_number(value)}
        key = state.key_metric_name
        details = state.metric_details.get(key)
        if isinstance(details, torch.Tensor) and details.ndim == 2 and details.shape[1] > 1:
            means = details.double().nanmean(0).tolist()
            names = self.names if len(self.names) == len(means) else [f"structure {n + 1}" for n in range(len(means))]
            names = [f"{name} {key}" for name in names] if key.endswith("_mm") else names  # no share, as a Dice is
            found |= dict(zip(names, means, strict=True))
        return dict(sorted(found.items(), key=lambda pair: pair[0] != key))


def _loss(engine: Engine) -> float:
    output: Any = engine.state.output
    loss = output["loss"] if isinstance(output, dict) else output[0]["loss"]
    return float(loss.detach() if isinstance(loss, torch.Tensor) else loss)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, torch.Tensor) and value.numel() == 1)
