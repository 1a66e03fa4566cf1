"""Checkpoints from which a run goes on as if it had not been stopped: bit for bit on a CPU.

MONAI's CheckpointSaver keeps state dicts of modules at the end of epochs, writes them in place (a process killed while it
writes leaves a broken file, and no other), and its CheckpointLoader begins a new epoch. This handler keeps everything
that the next step depends on: weights, moving average, optimiser, schedule, loader, all random generators, and the place
within the epoch.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines.workflow import Workflow

from medseg.errors import InputError
from medseg.training.checkpoint_file import latest_sound, write_checkpoint
from medseg.training.gradients import steps_now
from medseg.training.interrupts import Interrupts
from medseg.training.random_state import random_state, set_random_state

if TYPE_CHECKING:
    from collections.abc import Mapping


class Checkpoints:
    """A MONAI handler that writes `resume_*.pt`, and goes on from the latest.

    It stands behind every handler that changes a part, the validation too. One is written every `seconds` (less often
    where writing takes long), at the end of the run, and when the run is interrupted: Ctrl-C and SIGTERM let the step, or
    the validation, come to its end and then raise Stopped. The last two are kept.

    Of several processes the first writes; all go on from it. Only one process goes on bit for bit: the random
    generators of the others are not kept.

    Args:
        save_dir: folder of the checkpoints.
        parts: name -> what has `state_dict` and `load_state_dict`, or a MONAI engine, of which the best metric is kept.
        resume: begin with the latest checkpoint in `save_dir`.
        seconds: between two checkpoints.
        share: of the time that writing them may take; longer ones come more rarely.
        keep: how many.
    """

    def __init__(
        self,
        save_dir: str,
        parts: Mapping[str, Any],
        *,
        resume: bool = False,
        seconds: float = 60.0,
        share: float = 0.02,
        keep: int = 2,
    ) -> None:
        self.folder = Path(save_dir)
        self.parts = dict(parts)
        self.resume = resume
        self.seconds = seconds
        self.share = share
        self.keep = keep
        self._due = 0.0
        self._saved: int | None = None
        self._interrupts = Interrupts()
        without = [name for name, part in parts.items() if not hasattr(part, "state_dict")]
        if without:
            msg = f"these parts of a checkpoint have no state_dict: {', '.join(without)}"
            raise ValueError(msg)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, behind all handlers that are registered already."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        engine.add_event_handler(Events.COMPLETED, self._end)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def save(self, engine: Engine) -> None:
        """Write a checkpoint of the present state, unless there is one of this iteration."""
        if self._saved == engine.state.iteration or idist.get_rank() > 0:
            return
        begun = time.monotonic()
        state = {
            "iteration": engine.state.iteration,
            "epoch_length": engine.state.epoch_length,
            "parts": {name: _state_of(part) for name, part in self.parts.items()},
            "random": random_state(),
        }
        write_checkpoint(self.folder, state, engine.state.iteration, self.keep)
        self._saved = engine.state.iteration
        now = time.monotonic()
        self._due = now + max(self.seconds, (now - begun) / self.share)

    def restore(self, engine: Engine) -> None:
        """Go on from the latest checkpoint that is whole.

        Raises:
            InputError: MS-T104 there is none, MS-T162 all are damaged, MS-T163 it is of another run.
        """
        path, state = latest_sound(self.folder)
        length = state.get("epoch_length")
        if length != engine.state.epoch_length:
            raise _of_another_run(
                path, f"its epochs have {length} steps, those of this run {engine.state.epoch_length}"
            )
        for name, part in self.parts.items():
            try:
                _restore(part, state["parts"][name])
            except (KeyError, ValueError, RuntimeError) as error:
                raise _of_another_run(path, f"{name} does not fit ({str(error).splitlines()[0]})") from error
        iteration = int(state["iteration"])
        engine.state.iteration = iteration
        engine.state.epoch = iteration // length if length else 0  # ignite counts the epoch that it begins
        self._saved = iteration
        set_random_state(state["random"])
        logging.getLogger(__name__).info("going on from step %d (%s)", iteration, path.name)

    def _begin(self, engine: Engine) -> None:
        self._saved = None
        if self.resume:
            self.restore(engine)
        self._due = time.monotonic() + self.seconds
        self._interrupts.watch()

    def _after_step(self, engine: Engine) -> None:
        length = engine.state.epoch_length
        if not steps_now(engine) or (length and engine.state.iteration % length == 0):
            return  # gradients are being added up, or the epoch's other handlers come first
        self._save_when_due(engine)

    def _after_epoch(self, engine: Engine) -> None:
        self._save_when_due(engine)

    def _save_when_due(self, engine: Engine) -> None:
        if self._interrupts.heard is not None or time.monotonic() >= self._due:
            self.save(engine)
        self._interrupts.obey()

    def _end(self, engine: Engine) -> None:
        self.save(engine)
        self._interrupts.release()

    def _fail(self, engine: Engine, error: BaseException) -> None:
        del engine
        self._interrupts.release()
        raise error


def _state_of(part: Any) -> Any:
    if isinstance(part, Workflow):
        best = part.state.best_metric
        return {"best_metric": float(best), "best_metric_epoch": int(part.state.best_metric_epoch)}
    return part.state_dict()


def _restore(part: Any, state: Mapping[str, Any]) -> None:
    if isinstance(part, Workflow):
        part.state.best_metric = state["best_metric"]
        part.state.best_metric_epoch = state["best_metric_epoch"]
    else:
        part.load_state_dict(state)


def _of_another_run(path: Path, why: str) -> InputError:
    return InputError(
        "MS-T163", f"this checkpoint is not of this run: {why}", file=path,
        mend="go on with the data and the options of the run, or start another in a new folder",
    )  # fmt: skip
