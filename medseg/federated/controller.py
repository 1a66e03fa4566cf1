"""NVFLARE's server side: rounds that end, whatever becomes of a site (`asking`), and average only what is sound.

NVFLARE's own controllers average what is empty, and start the next round with nothing. Here each update is checked; a site
that sent none counts as missing, with a warning that names it; below the quorum the job fails, and says so.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvflare.apis.dxo import DataKind, from_shareable
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from medseg.bundle.config import read_config
from medseg.bundle.shipped import find_bundle
from medseg.errors import InputError, MedsegError, OutputError
from medseg.federated.aggregation import control_step, mean_change, server_step, shares
from medseg.federated.algorithm import Algorithm
from medseg.federated.asking import AskingController
from medseg.federated.bundle_hash import require_hash
from medseg.federated.exchange import (
    ROUND,
    UpdateError,
    check_update,
    completed,
    dxo_to_update,
    scalar_metrics,
    shapes_of,
    state_to_dxo,
    travelling,
    with_control,
    without_control,
)
from medseg.federated.executor import SCORE, TRAIN, VALIDATE
from medseg.federated.initial import initial_state
from medseg.federated.overrides import check_overrides
from medseg.federated.privacy.packing import unpack
from medseg.federated.results import write_result
from medseg.federated.rounds import FAILED, REFUSED, TESTED, USED, Answer, Round
from medseg.federated.server_state import ROUNDS, ServerState, add_round, load_state, save_state, write_failure
from medseg.federated.server_table import row_of, scalars_of
from medseg.federated.site_file import read_site_file
from medseg.writers.tensorboard import EventFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.shareable import Shareable
    from nvflare.apis.signal import Signal

#: What a site's return code means, for the warning that names it.
_MEANING = {
    ReturnCode.MODEL_UNRECOGNIZED: "it has another bundle, or one that was edited, and refused the job",
    ReturnCode.BAD_REQUEST_DATA: "it refused what the job would change of the bundle",
    ReturnCode.TASK_RESULT_FILTER_ERROR: "its own privacy policy stopped the update",
    ReturnCode.TASK_ABORTED: "it was stopped",
}


class MedsegController(AskingController):
    """Trains a bundle in rounds over all connected sites.

    Args:
        bundle: its name.
        bundle_hash: of it, as the sites check it too.
        algorithm: `Algorithm.to_json`.
        run: name of the training, under which the server keeps what it makes.
        overrides: plain values of train.json, see `check_overrides`.
        resume: go on from the last good global model of that run.
        init: a shipped bundle whose weights are the start, '' for those that `medseg train` would begin with.
    """

    def __init__(
        self,
        bundle: str,
        bundle_hash: str,
        algorithm: dict,
        run: str = "run",
        overrides: dict | None = None,
        resume: bool = False,
        init: str = "",
    ) -> None:
        super().__init__()
        self.bundle = bundle
        self.bundle_hash = bundle_hash
        self.algorithm = algorithm
        self.run = run
        self.overrides = overrides or {}
        self.resume = resume
        self.init = init
        self._expected: dict[str, tuple[int, ...]] = {}
        self._held_out: set[str] = set()
        fobs.register(TensorDecomposer)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """All rounds, and the last validation."""
        workspace: Any = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
        folder = Path(workspace.get_root_dir(), "medseg_results", Path(self.run).name)
        try:
            said = read_site_file(workspace.get_site_config_dir())
            folder = Path(said.work or folder.parent, folder.name)
            self._train(find_bundle(said.bundle or self.bundle), folder, abort_signal, fl_ctx)
        except Exception as error:  # noqa: BLE001  the job must end, and say why
            self.log_exception(fl_ctx, f"the training failed: {error}")
            write_failure(folder, error)
            self.system_panic(str(error), fl_ctx)

    def _train(self, root: Path, folder: Path, abort: Signal, fl_ctx: FLContext) -> None:
        how = Algorithm.from_json(self.algorithm)
        require_hash(root, self.bundle_hash)
        wanted = check_overrides(self.overrides, read_config(root, "train"))
        initial = initial_state(root, overrides=wanted, init=self.init or None)
        now = load_state(folder)
        if now is not None and not self.resume:
            mend = "give this training another name, or go on with --resume"
            raise OutputError("MS-J017", "there is a training of this name already", file=folder, mend=mend)
        sent = travelling(initial.state, how.personal)
        if now is None:
            learnt = {name: value for name, value in sent.items() if name in initial.parameters}
            control = {name: value * 0.0 for name, value in learnt.items()} if how.control_variates else {}
            now = ServerState(0, sent, control=control)
            save_state(folder, now)
        elif shapes_of(now.state) != shapes_of(sent):
            mend = "give this training another name"
            raise InputError("MS-J016", "the last global model is of another network", file=folder, mend=mend)
        buffers = frozenset(sent) - initial.parameters
        events = EventFile(folder / "training", now.rounds)
        while now.rounds < how.rounds:
            now = self._one_round(now, how, buffers, folder, events, abort, fl_ctx)
            if abort.triggered:
                return
        self._last_validation(now, how, folder, events, abort, fl_ctx)
        write_result(root, completed(initial.state, now.state), folder / "global")
        _hand_over(folder, fl_ctx)

    def _one_round(
        self,
        now: ServerState,
        how: Algorithm,
        buffers: frozenset[str],
        folder: Path,
        events: EventFile,
        abort: Signal,
        fl_ctx: FLContext,
    ) -> ServerState:
        number = now.rounds
        score = number % how.validate_every == 0
        seen, why = self._ask(TRAIN, now, how, how.quorum, abort, fl_ctx, {SCORE: score})
        if abort.triggered:
            return now
        updates = {site: one.update for site, one in sorted(seen.answers.items()) if one.update is not None}
        for site in seen.targets:
            if seen.outcome(site) not in (USED, TESTED):
                said = seen.answers[site].why if site in seen.answers else f"it sent nothing ({why})"
                self.log_warning(fl_ctx, f"round {number + 1}: site {site} is {seen.outcome(site)}: {said}")
        share = shares({site: update.cases for site, update in updates.items()}, how.share_cap) if updates else {}
        row = row_of(number, seen, share, why)
        if len(updates) < how.quorum:
            add_round(folder, row)
            raise below_quorum(number, seen, how.quorum, why)
        change = mean_change([update.diff for update in updates.values()], list(share.values()))
        weights, _ = without_control(change)
        state, moments = server_step(now.state, weights, how.server, now.moments, buffers)
        control = now.control
        if control:
            changes = [without_control(update.diff)[1] for update in updates.values()]
            control = control_step(control, changes, len(set(seen.targets) - self._held_out))
        row["drift"] = math.sqrt(sum(float(value.double().square().sum()) for value in weights.values()))
        after = ServerState(number + 1, state, moments, control)
        save_state(folder, after)
        add_round(folder, row)
        events.add(number + 1, scalars_of(row))
        self.log_info(
            fl_ctx, f"round {number + 1} of {how.rounds}: {len(updates)} of {len(seen.targets)} sites ({why})"
        )
        return after

    def _last_validation(
        self, now: ServerState, how: Algorithm, folder: Path, events: EventFile, abort: Signal, fl_ctx: FLContext
    ) -> None:
        seen, why = self._ask(VALIDATE, now, how, 0, abort, fl_ctx, {})
        row = row_of(how.rounds, seen, {}, why)
        add_round(folder, row)
        events.add(how.rounds + 1, scalars_of(row))

    def _ask(
        self,
        task_name: str,
        now: ServerState,
        how: Algorithm,
        quorum: int,
        abort: Signal,
        fl_ctx: FLContext,
        meta: Mapping[str, Any],
    ) -> tuple[Round, str]:
        """Send a task to all connected sites and wait until it is over, for `over`'s reason."""
        both = with_control(now.state, now.control if task_name == TRAIN else {})
        self._expected = shapes_of(both)
        if not self.connected():
            raise below_quorum(now.rounds, Round((), 0.0), how.quorum, "no site is connected")
        message = state_to_dxo(both, **{ROUND: now.rounds}, **meta)
        return self.ask(
            task_name, message, abort, fl_ctx, quorum=quorum, deadline_s=how.deadline_s, grace_s=how.grace_s
        )

    def judged(self, site: str, task_name: str, result: Shareable) -> Answer:
        """An update that may be averaged, a held-out site's scores, or why it is neither."""
        answer = self._judged(result)
        if answer.outcome == TESTED and task_name == TRAIN:
            self._held_out.add(site)
        return answer

    def _judged(self, result: Shareable) -> Answer:
        code = str(result.get_return_code())
        if code != ReturnCode.OK:
            return Answer(FAILED, why=_MEANING.get(code, f"it could not do its part ({code}); its own log says why"))
        try:
            dxo = from_shareable(result)
            if dxo.data_kind == DataKind.METRICS:
                return Answer(TESTED, metrics=scalar_metrics(dxo.data))
            dxo.data = unpack(dxo.data, dxo.meta)
            update = dxo_to_update(dxo)
            check_update(update.diff, self._expected)
        except MedsegError as error:
            return Answer(REFUSED, why=f"{error.code} {error.what}")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return Answer(REFUSED, why=f"it sent what is no update ({type(error).__name__})")
        return Answer(USED, update)


def _hand_over(folder: Path, fl_ctx: FLContext) -> None:
    """Put the model and the table into what NVFLARE keeps of the job, for whoever submitted it."""
    workspace: Any = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
    target = Path(workspace.get_run_dir(fl_ctx.get_job_id()), "medseg")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder / "global", target / "global")
    shutil.copyfile(folder / ROUNDS, target / ROUNDS)


def below_quorum(number: int, seen: Round, quorum: int, why: str) -> UpdateError:
    """Why a round failed: which sites were there, and what became of the others."""
    sound = sum(seen.outcome(site) == USED for site in seen.targets)
    others = ", ".join(f"{site} {seen.outcome(site)}" for site in seen.targets if seen.outcome(site) != USED)
    what = (
        f"round {number + 1} has {sound} sound updates of the {quorum} that it needs ({why}; {others or 'no others'})"
    )
    return UpdateError(
        "MS-J018", what,
        mend="bring the sites back and go on with --resume, or lower quorum in the algorithm's file",
    )  # fmt: skip
