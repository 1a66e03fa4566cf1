"""NVFLARE's server side: rounds that end, whatever becomes of a site (`asking`), and average only what is sound.

NVFLARE's own controllers average what is empty, and start the next round with nothing. Here each update is checked; a site
that sent none counts as missing, with a warning that names it; below the quorum the job fails, and says so. What becomes
of the updates is `plain_sums`', or `sealed_sums`' where the server must not read them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvflare.apis.dxo import DataKind, from_shareable
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from medseg.bundle.config import read_config
from medseg.bundle.shipped import find_bundle
from medseg.errors import MedsegError, OutputError
from medseg.federated.algorithm import Algorithm
from medseg.federated.asking import AskingController
from medseg.federated.bundle_hash import require_hash
from medseg.federated.exchange import ROUND, UpdateError, completed, scalar_metrics, state_to_dxo, travelling
from medseg.federated.executor import COUNT, SCORE, TRAIN, VALIDATE
from medseg.federated.initial import initial_state
from medseg.federated.overrides import check_overrides
from medseg.federated.plain_sums import PlainSums
from medseg.federated.results import write_result
from medseg.federated.rounds import FAILED, REFUSED, TESTED, USED, Answer, Round
from medseg.federated.sealed_sums import SealedSums
from medseg.federated.server_state import ROUNDS, ServerState, add_round, load_state, save_state, write_failure
from medseg.federated.server_table import row_of, scalars_of
from medseg.federated.site_file import read_site_file
from medseg.writers.tensorboard import EventFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.shareable import Shareable
    from nvflare.apis.signal import Signal

    from medseg.federated.exchange import Update

Sums = PlainSums | SealedSums
#: What a site's return code means, for the warning that names it.
_MEANING = {
    ReturnCode.MODEL_UNRECOGNIZED: "it has another bundle, or one that was edited, and refused the job",
    ReturnCode.BAD_REQUEST_DATA: "it refused what the job would change of the bundle",
    ReturnCode.TASK_RESULT_FILTER_ERROR: "its own privacy policy stopped the update",
    ReturnCode.TASK_DATA_FILTER_ERROR: "it could not open the global model: it has no key, or another one",
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
        encrypted: the sites' updates travel encrypted, and so does the global model after the first round.
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
        encrypted: bool = False,
    ) -> None:
        super().__init__()
        self.bundle = bundle
        self.bundle_hash = bundle_hash
        self.algorithm = algorithm
        self.run = run
        self.overrides = overrides or {}
        self.resume = resume
        self.init = init
        self.encrypted = encrypted
        self._sums: Sums | None = None
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
        self._sums = sums = SealedSums(how, sent) if self.encrypted else PlainSums(how, sent, initial.parameters)
        if now is None:
            now = sums.begin()
            save_state(folder, now)
        sums.require_fitting(now, folder)
        events = EventFile(folder / "training", now.rounds)
        while now.rounds < how.rounds:
            if isinstance(sums, SealedSums) and sums.unknown(self.connected()):
                self._count(sums, abort, fl_ctx)
            now = self._one_round(now, sums, folder, events, abort, fl_ctx)
            if abort.triggered:
                return
        self._last_validation(now, sums, folder, events, abort, fl_ctx)
        if not self.encrypted:
            write_result(root, completed(initial.state, now.state), folder / "global")
        _hand_over(folder, fl_ctx)

    def _count(self, sums: SealedSums, abort: Signal, fl_ctx: FLContext) -> None:
        """Hear how many cases each site has, which says by how much it weighs its updates."""
        how = sums.how
        seen, _ = self.ask(
            COUNT, state_to_dxo({}), abort, fl_ctx, quorum=how.quorum, deadline_s=how.deadline_s, grace_s=how.grace_s
        )
        sums.count({site: one.said for site, one in seen.answers.items() if one.outcome == USED})

    def _one_round(
        self,
        now: ServerState,
        sums: Sums,
        folder: Path,
        events: EventFile,
        abort: Signal,
        fl_ctx: FLContext,
    ) -> ServerState:
        number, how = now.rounds, sums.how
        score = number % how.validate_every == 0
        seen, why = self._ask(TRAIN, now, sums, how.quorum, abort, fl_ctx, {SCORE: score})
        if abort.triggered:
            return now
        updates = _settled(seen, sums)
        for site in seen.targets:
            if seen.outcome(site) not in (USED, TESTED):
                said = seen.answers[site].why if site in seen.answers else f"it sent nothing ({why})"
                self.log_warning(fl_ctx, f"round {number + 1}: site {site} is {seen.outcome(site)}: {said}")
        share = sums.shares(updates) if updates else {}
        row = row_of(number, seen, share, why)
        if len(updates) < how.quorum:
            add_round(folder, row)
            raise below_quorum(number, seen, how.quorum, why)
        try:
            after, said = sums.after(now, updates, share, len(set(seen.targets) - self._held_out))
        except MedsegError:  # the last good state stays, and the table says who was there
            add_round(folder, row)
            raise
        row |= said
        save_state(folder, after)
        add_round(folder, row)
        events.add(number + 1, scalars_of(row))
        self.log_info(
            fl_ctx, f"round {number + 1} of {how.rounds}: {len(updates)} of {len(seen.targets)} sites ({why})"
        )
        return after

    def _last_validation(
        self, now: ServerState, sums: Sums, folder: Path, events: EventFile, abort: Signal, fl_ctx: FLContext
    ) -> None:
        seen, why = self._ask(VALIDATE, now, sums, 0, abort, fl_ctx, {})
        row = row_of(sums.how.rounds, seen, {}, why)
        add_round(folder, row)
        events.add(sums.how.rounds + 1, scalars_of(row))

    def _ask(
        self,
        task_name: str,
        now: ServerState,
        sums: Sums,
        quorum: int,
        abort: Signal,
        fl_ctx: FLContext,
        meta: Mapping[str, Any],
    ) -> tuple[Round, str]:
        """Send a task to all connected sites and wait until it is over, for `over`'s reason."""
        how = sums.how
        if not self.connected():
            raise below_quorum(now.rounds, Round((), 0.0), how.quorum, "no site is connected")
        state, beside = sums.message(now, training=task_name == TRAIN)
        message = state_to_dxo(state, **{ROUND: now.rounds}, **beside, **meta)
        return self.ask(
            task_name, message, abort, fl_ctx, quorum=quorum, deadline_s=how.deadline_s, grace_s=how.grace_s
        )

    def judged(self, site: str, task_name: str, result: Shareable) -> Answer:
        """An update that may be averaged, a held-out site's scores, or why it is neither."""
        answer = self._judged(task_name, result)
        if answer.outcome == TESTED and task_name == TRAIN:
            self._held_out.add(site)
        return answer

    def _judged(self, task_name: str, result: Shareable) -> Answer:
        try:
            code = str(result.get_return_code())
            if code != ReturnCode.OK:
                why = _MEANING.get(code, f"it could not do its part ({code}); its own log says why")
                return Answer(FAILED, why=why)
            dxo = from_shareable(result)
            if task_name == COUNT:
                return Answer(USED, said=int(scalar_metrics(dxo.data)["cases"]))
            if dxo.data_kind == DataKind.METRICS:
                return Answer(TESTED, metrics=scalar_metrics(dxo.data))
            if self._sums is None:
                return Answer(REFUSED, why="it sent an update before it was asked for one")
            update = self._sums.update_of(dxo)
        except MedsegError as error:
            return Answer(REFUSED, why=f"{error.code} {error.what}")
        except Exception as error:  # noqa: BLE001  what one site sent must not stop the round for all
            return Answer(REFUSED, why=f"it sent what is no update ({type(error).__name__})")
        return Answer(USED, update)


def _settled(seen: Round, sums: Sums) -> dict[str, Update]:
    """Site -> update of a round that is over; whatever only then turns out to be unfit is refused."""
    updates = {site: one.update for site, one in sorted(seen.answers.items()) if one.update is not None}
    if not isinstance(sums, SealedSums):
        return updates
    refused = {
        site: Answer(REFUSED, why=f"{one.code} {one.what}") for site, one in sums.of_another_key(updates).items()
    }
    seen.answers = seen.answers | refused
    return {site: update for site, update in updates.items() if site not in refused}


def _hand_over(folder: Path, fl_ctx: FLContext) -> None:
    """Put the model and the table into what NVFLARE keeps of the job, for whoever submitted it."""
    workspace: Any = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
    target = Path(workspace.get_run_dir(fl_ctx.get_job_id()), "medseg")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if (folder / "global").is_dir():  # an encrypted one is at the sites alone
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
