"""NVFLARE's client side: one job at one site. Everything it does is in `local_training`; here is only the carrying.

A job names this class and no code of its own. It says a bundle by name and hash, and plain values; where the bundle and
the data lie says the site's own file. Errors stay here: the server hears a return code, the site's log the rest.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from medseg.bundle.config import read_config
from medseg.bundle.shipped import find_bundle
from medseg.errors import MedsegError
from medseg.federated.algorithm import Algorithm
from medseg.federated.bundle_hash import require_hash
from medseg.federated.cause import cause_of
from medseg.federated.exchange import (
    ROUND,
    Update,
    completed,
    difference,
    scalar_metrics,
    travelling,
    update_to_dxo,
    with_control,
    without_control,
)
from medseg.federated.label_union import site_labels
from medseg.federated.local_training import LocalTraining
from medseg.federated.overrides import check_overrides
from medseg.federated.results import write_result
from medseg.federated.site_check import require_apart, require_sides
from medseg.federated.site_file import read_site_file
from medseg.federated.site_recipe import SiteRecipe
from medseg.labels import LabelTable
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.signal import Signal

#: Tasks of a training.
TRAIN, VALIDATE, COUNT = "train", "validate", "count"
#: Asks for a validation of the global weights before a round's steps.
SCORE = "medseg_score"
#: Names in a site's work folder.
GLOBAL, OWN, PROGRESS = "global", "own", "progress.json"
#: What the server hears instead of text.
_CODES = {"MS-J010": ReturnCode.MODEL_UNRECOGNIZED, "MS-J015": ReturnCode.BAD_REQUEST_DATA}


class MedsegExecutor(Executor):
    """Trains a bundle on this site's cases, and validates global models on them.

    Args:
        bundle: its name.
        bundle_hash: `bundle_hash` of it; any other is refused.
        algorithm: `Algorithm.to_json`.
        run: name of the training, under which a site keeps what stays there.
        overrides: plain values of train.json, see `check_overrides`.
        resume: go on from what this site kept of that run.
    """

    def __init__(
        self,
        bundle: str,
        bundle_hash: str,
        algorithm: dict,
        run: str = "run",
        overrides: dict | None = None,
        resume: bool = False,
    ) -> None:
        super().__init__()
        self.bundle = bundle
        self.bundle_hash = bundle_hash
        self.algorithm = algorithm
        self.run = run
        self.overrides = overrides or {}
        self.resume = resume
        self._local: LocalTraining | None = None
        self._told = 0.0
        fobs.register(TensorDecomposer)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Do one task; see `medseg.federated.exchange` for what comes and goes."""
        try:
            dxo = from_shareable(shareable)
            if task_name == TRAIN:
                return self._train(dxo, fl_ctx, abort_signal)
            if task_name == VALIDATE:
                return self._validate(dxo, fl_ctx)
            if task_name == COUNT:
                return DXO(DataKind.METRICS, data={"cases": float(self._open(fl_ctx).recipe.cases)}).to_shareable()
        except Exception as error:
            known = cause_of(error)
            logging.getLogger(__name__).exception("the task failed; nothing of it was sent")
            self._leave(resume=True)
            return make_reply(_CODES.get(known.code if known else "", ReturnCode.EXECUTION_EXCEPTION))
        return make_reply(ReturnCode.TASK_UNSUPPORTED)

    def _train(self, dxo: DXO, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        local, how = self._open(fl_ctx), Algorithm.from_json(self.algorithm)
        weights, control = without_control(dxo.data)
        number = int((dxo.meta or {})[ROUND])
        scores = local.validate(weights, number) if dxo.get_meta_prop(SCORE) or local.recipe.held_out else {}
        if local.recipe.held_out:
            return DXO(DataKind.METRICS, data=scalar_metrics(scores)).to_shareable()
        trained = local.round(
            weights, number, control=control, abort=lambda: abort_signal.triggered,
            watch=lambda step, of, loss: self._tell(local.recipe.out, number, step, of, loss),
        )  # fmt: skip
        if trained is None:
            return make_reply(ReturnCode.TASK_ABORTED)
        diff = difference(travelling(trained.state, how.personal), weights)
        changed = {name: trained.control[name] for name in control}
        update = Update(with_control(diff, changed), local.recipe.cases, trained.steps, {**scores, **trained.metrics})
        return update_to_dxo(update).to_shareable()

    def _validate(self, dxo: DXO, fl_ctx: FLContext) -> Shareable:
        """Score the last global model, and keep it and this site's own as bundles."""
        local, how = self._open(fl_ctx), Algorithm.from_json(self.algorithm)
        weights, _ = without_control(dxo.data)
        scores = local.validate(weights, how.rounds)
        own = local.state()
        final = completed(own, weights)
        write_result(local.recipe.root, final, local.recipe.out / GLOBAL)
        if not local.recipe.held_out:
            write_result(
                local.recipe.root, final if how.personal else own, local.recipe.out / OWN, local.recipe.training_cases()
            )
        self._leave(resume=True)
        return DXO(DataKind.METRICS, data=scalar_metrics(scores)).to_shareable()

    def _open(self, fl_ctx: FLContext) -> LocalTraining:
        """This site's training; the bundle is compared and opened once for all rounds."""
        if self._local is None:
            workspace: Any = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
            said = read_site_file(workspace.get_site_config_dir())
            root = find_bundle(said.bundle or self.bundle)
            require_hash(root, self.bundle_hash)
            config = read_config(root, "train")
            wanted = check_overrides(self.overrides, config)
            if "labels_present" in config:  # labelled in part: what this site labels, and by which values
                wanted |= site_labels(Path(said.data), LabelTable.from_json(config["labels"]))
            if said.look:
                require_sides(Path(said.data), root)
            work = Path(said.work or Path(workspace.get_root_dir(), "medseg_work")) / Path(self.run).name
            recipe = SiteRecipe(
                root, Path(said.data), work, Algorithm.from_json(self.algorithm),
                validation=said.validation, held_out=said.held_out, overrides=wanted,
            )  # fmt: skip
            if not said.held_out:
                require_apart(recipe)
            self._local = LocalTraining(recipe, resume=self.resume)
        return self._local

    def _leave(self, *, resume: bool) -> None:
        """Let go of the training; the next task opens it again, from the last round that was whole."""
        local, self._local, self.resume = self._local, None, resume or self.resume
        if local is not None:
            try:
                local.close()
            except (MedsegError, RuntimeError, OSError) as error:
                logging.getLogger(__name__).warning("%s", error)

    def _tell(self, folder: Path, number: int, step: int, of: int, loss: float) -> None:
        """Say on this machine how far it is, at most once a second."""
        now = time.monotonic()
        if step == of or now - self._told >= 1.0:
            self._told = now
            write_json(folder / PROGRESS, {"round": number, "step": step, "of": of, "loss": _finite(loss)})


def _finite(value: float) -> float | None:
    return value if value - value == 0 else None
