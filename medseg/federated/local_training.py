"""One site's part of a training, without NVFLARE: the bundle's own trainer, stopped after every round and gone on with.

The trainer's optimiser, schedule, random numbers and place in the data live on from round to round. Only the weights are
put in anew. So one site that exchanges with nobody gets what `medseg train` gets. A site that missed some rounds goes on
where the others are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ignite.engine import Events

from medseg.errors import InputError
from medseg.federated.corrections import ControlVariates, ProximalPull
from medseg.federated.exchange import completed
from medseg.federated.scores import scores_of
from medseg.federated.site_recipe import quiet
from medseg.training.checkpoint_file import checkpoints
from medseg.training.checkpoints import Checkpoints
from medseg.training.random_state import random_state, set_random_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ignite.engine import Engine
    from torch import Tensor

    from medseg.federated.site_recipe import SiteRecipe


@dataclass(frozen=True)
class Trained:
    """What a round gave.

    Args:
        state: the network's whole state dict, on the CPU.
        steps: of the optimiser that were taken.
        metrics: 'loss', the mean over the round, and 'seconds'.
        control: change of the site's control variate, {} without SCAFFOLD.
    """

    state: dict[str, Tensor]
    steps: int
    metrics: dict[str, float]
    control: dict[str, Tensor] = field(default_factory=dict)


class LocalTraining:
    """A site's recipe at work. Nothing is read before the first round or validation.

    Args:
        recipe: a bundle on this site's cases; its `out` gets TensorBoard's events, curves, checkpoints.
        trains: False: only `validate` will be asked for, so no trainer is built.
        resume: go on from the checkpoint of the last round in the recipe's `out`, where there is one.
    """

    def __init__(self, recipe: SiteRecipe, *, trains: bool = True, resume: bool = False) -> None:
        self.recipe = recipe
        self.trains = trains and not recipe.held_out
        self.aborted = False
        self._resume = resume
        self._until = 0
        self._losses: list[float] = []
        self._watch: Callable[[int, int, float], None] | None = None
        self._abort: Callable[[], bool] | None = None
        self._trainer: Any = None

    @property
    def steps(self) -> int:
        """Of a round."""
        self._ready()
        return self.recipe.epochs * self._trainer.state.epoch_length

    def round(
        self,
        received: Mapping[str, Tensor],
        number: int,
        *,
        control: Mapping[str, Tensor] | None = None,
        abort: Callable[[], bool] | None = None,
        watch: Callable[[int, int, float], None] | None = None,
    ) -> Trained | None:
        """Put the global weights in and train for one round.

        Args:
            received: what travels of the global state.
            number: of the round, from 0.
            control: SCAFFOLD's server variate.
            abort: asked after every step; True ends the round.
            watch: told (step of the round, steps of the round, loss) after every step.

        Returns:
            None where it was aborted.

        Raises:
            MedsegError: what reading cases or training refuses, see `medseg train`.
        """
        self._ready(number)
        trainer, length = self._trainer, self._trainer.state.epoch_length
        network = self.recipe.build("network")
        network.load_state_dict(completed(network.state_dict(), received))
        self._pull.begin()
        if self._variates is not None:
            self._variates.begin(control or {})
        trainer.state.epoch = number * self.recipe.epochs
        trainer.state.iteration = number * self.recipe.epochs * length
        self._until, self._losses, self.aborted = (number + 1) * self.recipe.epochs, [], False
        self._watch, self._abort = watch, abort
        began = time.monotonic()
        with quiet():
            trainer.run()
        if self.aborted:
            return None
        changed = {} if self._variates is None else self._variates.end()
        self._saver.save(trainer)
        metrics = {"loss": sum(self._losses) / len(self._losses), "seconds": time.monotonic() - began}
        state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        return Trained(state, len(self._losses), metrics, changed)

    def validate(self, received: Mapping[str, Tensor], number: int = 0) -> dict[str, float]:
        """Score global weights, with what is personal here, on this site's validation cases.

        Weights, optimiser and random numbers are afterwards as they were.

        Args:
            received: what travels of the global state.
            number: of the round that comes next, for the curves.

        Returns:
            The recipe's metrics by their names, its key metric first, and of that every structure's mean; {} where the
            recipe has no evaluator.
        """
        if self.trains:  # first: MONAI's DataLoader resets torch's generator, so the order of building counts
            self._ready(number)
        evaluator = self.recipe.build("validate#evaluator")
        if evaluator is None:
            return {}
        network = self.recipe.build("network")
        kept, random = {k: v.clone() for k, v in evaluator.network.state_dict().items()}, random_state()
        evaluator.network.load_state_dict(completed(network.state_dict(), received))
        try:
            with quiet():
                evaluator.run(number * self.recipe.epochs + 1 if self._trainer is not None else 1)
        finally:
            evaluator.network.load_state_dict(kept)
            set_random_state(random)
        return scores_of(evaluator, self.recipe.structures)

    def state(self) -> dict[str, Tensor]:
        """The network's whole state dict, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.recipe.build("network").state_dict().items()}

    def close(self) -> None:
        """Draw the last curves; give back what a trusted bundle's scripts took."""
        trainer = self._trainer
        if trainer is not None and not self.aborted and trainer.state.epoch >= trainer.state.max_epochs:
            with quiet():
                trainer.run()
        self.recipe.close()

    def _ready(self, number: int = 0) -> None:
        """Build the trainer and hang the hooks of rounds behind its own handlers."""
        if self._trainer is not None:
            return
        if not len(self.recipe.build("train#dataloader")):
            raise InputError(
                "MS-J013", f"{self.recipe.cases} training cases do not fill one batch", file=self.recipe.data,
                mend="add cases, or lower batch_size in the train.json of the bundle that all sites use",
            )  # fmt: skip
        trainer = self.recipe.build("train#trainer")
        network = self.recipe.build("network")
        self._pull = ProximalPull(network, self.recipe.algorithm.mu)
        self._variates = ControlVariates(network) if self.recipe.algorithm.control_variates else None
        for hook in (self._pull, self._variates):
            if hook is not None:
                hook.attach(trainer)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        parts = self.recipe.build("checkpoint") or {"model": network, "optimizer": self.recipe.build("optimizer")}
        parts = {name: part for name, part in parts.items() if hasattr(part, "state_dict")}
        if self._variates is not None:
            parts["control"] = self._variates
        self._saver = Checkpoints(str(self.recipe.out / "models"), parts)
        self._trainer = trainer
        self._restore(number * self.recipe.epochs * trainer.state.epoch_length if self._resume else -1)

    def _restore(self, iteration: int) -> None:
        """Go on from the last round that counted; checkpoints of later ones, or of an earlier run, are removed."""
        for path in checkpoints(self.recipe.out / "models"):
            if int(path.name.split("_")[1].split("-")[0]) > iteration:
                path.unlink()
        if checkpoints(self.recipe.out / "models"):
            self._saver.restore(self._trainer)

    def _after_step(self, engine: Engine) -> None:
        output: Any = engine.state.output
        loss = float((output if isinstance(output, dict) else output[0])["loss"])
        self._losses.append(loss)
        if self._watch is not None:
            self._watch(len(self._losses), self.recipe.epochs * (engine.state.epoch_length or 1), loss)
        if self._abort is not None and self._abort():
            self.aborted = True
            engine.terminate_epoch()

    def _after_epoch(self, engine: Engine) -> None:
        if self.aborted or engine.state.epoch >= self._until:
            engine.interrupt()
