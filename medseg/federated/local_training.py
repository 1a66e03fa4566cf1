"""One site's part of a training, without NVFLARE: the bundle's own trainer, stopped after every round and gone on with.

The bundle is opened once, through the gate that `medseg train` uses, and its trainer's optimiser, schedule, random
numbers and place in the data live on from round to round. Only the weights are put in anew. So one site that exchanges
with nobody gets what `medseg train` gets. The schedule spans all rounds; a site that missed some goes on where the others
are. Validation, checkpoints and final weights of the recipe are switched off: here rounds say when.
"""

from __future__ import annotations

import sys
import time
import warnings
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events

from medseg.bundle.config import read_config
from medseg.bundle.load import build, open_config, running_trusted
from medseg.bundle.shipped import find_bundle
from medseg.bundle.trust import is_trusted
from medseg.errors import InputError
from medseg.federated.corrections import ControlVariates, ProximalPull
from medseg.federated.exchange import completed
from medseg.federated.scores import scores_of
from medseg.training.checkpoint_file import checkpoints
from medseg.training.checkpoints import Checkpoints
from medseg.training.cross_validation import names_of
from medseg.training.datalist import datalist
from medseg.training.options import Asked, overrides_of
from medseg.training.random_state import random_state, set_random_state
from medseg.training.train import named_channels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ignite.engine import Engine
    from torch import Tensor

    from medseg.federated.algorithm import Algorithm

#: Handlers of a recipe whose work rounds do, by the last part of their names.
_OFF = frozenset(
    {"ValidationHandler", "Checkpoints", "CheckpointSaver", "CheckpointLoader", "FinalWeights", "BestWeights"}
)


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
    """A bundle on one site's cases. Nothing is read before the first round or validation.

    Args:
        bundle: folder or shipped name.
        data: this site's cases, as `medseg train` takes them.
        out: folder of what stays here: TensorBoard's events, curves, checkpoints.
        algorithm: rounds, steps of a round, corrections.
        validation: names of the cases that validate; () as the recipe says.
        held_out: every case validates, none trains.
        trains: False: only `validate` will be asked for, so no trainer is built.
        overrides: `id -> value` of train.json beside those of this module.
        resume: go on from the checkpoint of the last round in `out`, where there is one.
    """

    def __init__(
        self,
        bundle: str | Path,
        data: Path,
        out: Path,
        algorithm: Algorithm,
        *,
        validation: Sequence[str] = (),
        held_out: bool = False,
        trains: bool = True,
        overrides: Mapping[str, Any] | None = None,
        resume: bool = False,
    ) -> None:
        self.root = find_bundle(bundle)
        self.data, self.out = Path(data), Path(out)
        self.algorithm = algorithm
        self.held_out = held_out
        self.trains = trains and not held_out
        self.aborted = False
        self._resume = resume
        self._until = 0
        self._losses: list[float] = []
        self._watch: Callable[[int, int, float], None] | None = None
        self._abort: Callable[[], bool] | None = None
        self._stack = ExitStack()
        self._parser: Any = None
        self._trainer: Any = None
        self._wanted = dict(overrides or {})
        self._validation = tuple(validation)

    @property
    def cases(self) -> int:
        """Training cases of this site, 0 where it is held out."""
        return 0 if self.held_out else len({str(one["image"]) for one in self.training_cases()})

    def training_cases(self) -> list[dict[str, Any]]:
        """MONAI's data list of the training cases."""
        return list(self._build("train#dataset#data"))

    def validation_cases(self) -> list[dict[str, Any]]:
        """MONAI's data list of the validation cases."""
        return list(self._build("validate#dataset#data"))

    @property
    def steps(self) -> int:
        """Of a round."""
        self._ready()
        return self._epochs * self._trainer.state.epoch_length

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
        network = self._build("network")
        network.load_state_dict(completed(network.state_dict(), received))
        self._pull.begin()
        if self._variates is not None:
            self._variates.begin(control or {})
        trainer.state.epoch = number * self._epochs
        trainer.state.iteration = number * self._epochs * length
        self._until, self._losses, self.aborted = (number + 1) * self._epochs, [], False
        self._watch, self._abort = watch, abort
        began = time.monotonic()
        with _quiet():
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
        evaluator = self._build("validate#evaluator")
        if evaluator is None:
            return {}
        network = self._build("network")
        kept, random = {k: v.clone() for k, v in evaluator.network.state_dict().items()}, random_state()
        evaluator.network.load_state_dict(completed(network.state_dict(), received))
        try:
            with _quiet():
                evaluator.run(number * self._epochs + 1 if self._trainer is not None else 1)
        finally:
            evaluator.network.load_state_dict(kept)
            set_random_state(random)
        return scores_of(evaluator, [str(one["name"]) for one in self._parser.get("labels") or ()])

    def state(self) -> dict[str, Tensor]:
        """The network's whole state dict, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self._build("network").state_dict().items()}

    def close(self) -> None:
        """Draw the last curves; give back what a trusted bundle's scripts took."""
        trainer = self._trainer
        if trainer is not None and not self.aborted and trainer.state.epoch >= trainer.state.max_epochs:
            with _quiet():
                trainer.run()
        self._stack.close()

    @property
    def _epochs(self) -> int:
        return self.algorithm.local_epochs or 1

    def _build(self, key: str) -> Any:
        self._open()
        with _quiet():
            return build(self._parser, (key,), self.root)

    def _open(self) -> None:
        if self._parser is not None:
            return
        if not self.data.exists():
            raise InputError(
                "MS-T103", "no such folder", file=self.data, mend="give a folder with imagesTr and labelsTr"
            )
        config = read_config(self.root, "train")
        trusted = is_trusted(self.root)
        self._stack.enter_context(running_trusted(self.root, trusted))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        metadata = read_config(self.root, "metadata")
        overrides = self._overrides(config)
        self._parser = open_config(self.root, config, metadata, device=device, trusted=trusted, overrides=overrides)
        if "initialize" in self._parser:
            with _quiet():
                self._parser.get_parsed_content("initialize")

    def _overrides(self, config: dict[str, Any]) -> dict[str, Any]:
        validation = self._validation
        if self.held_out:
            channels = named_channels(config)
            every = [one for part in ("train", "val") for one in datalist(str(self.data), part, channels=channels)]
            validation = names_of([one["label"] for one in every])
        epochs = self.algorithm.rounds * self._epochs
        asked = Asked(self.data, self.out, epochs=epochs, validation=tuple(validation) or None, bundle=self.root)
        found = overrides_of(config, asked) | self._wanted | {"train#trainer#max_epochs": epochs}
        if self.algorithm.local_steps is not None:
            found["train#trainer#epoch_length"] = self.algorithm.local_steps
        for number, handler in enumerate((config.get("train") or {}).get("handlers") or ()):
            if isinstance(handler, dict) and str(handler.get("_target_")).rsplit(".", 1)[-1] in _OFF:
                found[f"train#handlers#{number}#_disabled_"] = True
        return found

    def _ready(self, number: int = 0) -> None:
        """Build the trainer and hang the hooks of rounds behind its own handlers."""
        if self._trainer is not None:
            return
        if not len(self._build("train#dataloader")):
            raise InputError(
                "MS-J013", f"{self.cases} training cases do not fill one batch", file=self.data,
                mend="add cases, or lower batch_size in the train.json of the bundle that all sites use",
            )  # fmt: skip
        trainer = self._build("train#trainer")
        network = self._build("network")
        self._pull = ProximalPull(network, self.algorithm.mu)
        self._variates = ControlVariates(network) if self.algorithm.control_variates else None
        for hook in (self._pull, self._variates):
            if hook is not None:
                hook.attach(trainer)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        parts = self._build("checkpoint") or {"model": network, "optimizer": self._build("optimizer")}
        parts = {name: part for name, part in parts.items() if hasattr(part, "state_dict")}
        if self._variates is not None:
            parts["control"] = self._variates
        self._saver = Checkpoints(str(self.out / "models"), parts)
        self._trainer = trainer
        self._restore(number * self._epochs * trainer.state.epoch_length if self._resume else -1)

    def _restore(self, iteration: int) -> None:
        """Go on from the last round that counted; checkpoints of later ones, or of an earlier run, are removed."""
        for path in checkpoints(self.out / "models"):
            if int(path.name.split("_")[1].split("-")[0]) > iteration:
                path.unlink()
        if checkpoints(self.out / "models"):
            self._saver.restore(self._trainer)

    def _after_step(self, engine: Engine) -> None:
        output: Any = engine.state.output
        loss = float((output if isinstance(output, dict) else output[0])["loss"])
        self._losses.append(loss)
        if self._watch is not None:
            self._watch(len(self._losses), self._epochs * (engine.state.epoch_length or 1), loss)
        if self._abort is not None and self._abort():
            self.aborted = True
            engine.terminate_epoch()

    def _after_epoch(self, engine: Engine) -> None:
        if self.aborted or engine.state.epoch >= self._until:
            engine.interrupt()


@contextmanager
def _quiet() -> Iterator[None]:
    """MONAI's own deprecations say nothing to a site; its handlers' lines go where medseg's messages go, to stderr."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield
