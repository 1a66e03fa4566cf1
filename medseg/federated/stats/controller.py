"""NVFLARE's server side of the statistics: asks all sites twice, compares them, and writes what they can agree on.

As in a training (`asking`), each question has a deadline and a quorum, a site that is killed or slow is not waited for, and
what is no fingerprint is not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import FLContextKey, ReturnCode

from medseg.bundle.shipped import find_bundle
from medseg.errors import InputError, MedsegError
from medseg.federated.asking import AskingController
from medseg.federated.bundle_hash import require_hash
from medseg.federated.rounds import FAILED, REFUSED, USED, Answer
from medseg.federated.server_state import write_failure
from medseg.federated.site_file import read_site_file
from medseg.federated.stats.agreement import agree, bins_for
from medseg.federated.stats.exchange import heard, question
from medseg.federated.stats.executor import STATS
from medseg.federated.stats.reference import channels_and_labels
from medseg.federated.stats.report import write_report

if TYPE_CHECKING:
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.shareable import Shareable
    from nvflare.apis.signal import Signal

    from medseg.federated.site_file import SiteFile
    from medseg.federated.stats.fingerprint import Bins, Fingerprint
    from medseg.labels import LabelTable


#: Folder of the report in the job's own, which whoever submitted it can fetch.
FETCHED = "medseg_stats"


class StatsController(AskingController):
    """Compares the data of all connected sites.

    Args:
        run: name under which the server keeps what it writes.
        bundle: name of the one that is to be trained; '': there is none yet.
        bundle_hash: of it, as the sites check it too.
        at_least: cases below which a site is to say nothing; a site's own number counts where it is higher.
        quorum: sites that must answer.
        deadline_s: for a site to read its cases and answer.
        grace_s: for the others once the quorum has answered.
    """

    def __init__(
        self,
        run: str = "stats",
        bundle: str = "",
        bundle_hash: str = "",
        at_least: int = 5,
        quorum: int = 2,
        deadline_s: float = 3600.0,
        grace_s: float = 600.0,
    ) -> None:
        super().__init__()
        self.run = run
        self.bundle = bundle
        self.bundle_hash = bundle_hash
        self.at_least = at_least
        self.quorum = quorum
        self.deadline_s = deadline_s
        self.grace_s = grace_s

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Both questions, and the report."""
        workspace: Any = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
        folder = Path(workspace.get_root_dir(), "medseg_results", Path(self.run).name)
        try:
            said = read_site_file(workspace.get_site_config_dir())
            folder = Path(said.work or folder.parent, folder.name)
            labels = self._labels(said)
            first = self._ask((), abort_signal, fl_ctx)
            training = [one for one, held_out in first.values() if not held_out]
            last = self._ask(bins_for(training), abort_signal, fl_ctx)
            if abort_signal.triggered:
                return
            held_out = [site for site, (_, apart) in last.items() if apart]
            if len(held_out) == len(last):
                msg = f"all of {', '.join(held_out)} are held out"
                raise self._too_few(msg)
            found = agree({site: one for site, (one, _) in last.items()}, labels, held_out)
            write_report(folder, found)
            write_report(Path(workspace.get_run_dir(fl_ctx.get_job_id()), FETCHED), found)
        except Exception as error:  # noqa: BLE001  the job must end, and say why
            self.log_exception(fl_ctx, f"the statistics failed: {error}")
            write_failure(folder, error)
            self.system_panic(str(error), fl_ctx)

    def judged(self, site: str, task_name: str, result: Shareable) -> Answer:
        """A fingerprint and whether its site is held out, or why it is none."""
        del site, task_name
        try:
            code = str(result.get_return_code())
            if code == ReturnCode.TASK_RESULT_FILTER_ERROR:
                return Answer(FAILED, why="its own privacy policy stopped the answer")
            if code != ReturnCode.OK:
                return Answer(FAILED, why=f"it could not answer ({code}); its own log says why")
            return Answer(USED, said=heard(from_shareable(result).data))
        except MedsegError as error:
            return Answer(REFUSED, why=f"{error.code} {error.what}")
        except Exception as error:  # noqa: BLE001  what one site sent must not stop the question for all
            return Answer(REFUSED, why=f"it sent what is no answer ({type(error).__name__})")

    def _labels(self, said: SiteFile) -> LabelTable | None:
        if not self.bundle:
            return None
        root = find_bundle(said.bundle or self.bundle)
        require_hash(root, self.bundle_hash)
        return channels_and_labels(root)[1]

    def _ask(self, bins: tuple[Bins, ...], abort: Signal, fl_ctx: FLContext) -> dict[str, tuple[Fingerprint, bool]]:
        """The answers of all sites to one question, by name.

        Raises:
            InputError: MS-J174 fewer than the quorum answered.
        """
        if len(self.connected()) < self.quorum:
            msg = f"{len(self.connected())} are connected"
            raise self._too_few(msg)
        message = DXO(DataKind.APP_DEFINED, data=question(self.at_least, bins))
        seen, why = self.ask(
            STATS, message, abort, fl_ctx, quorum=self.quorum, deadline_s=self.deadline_s, grace_s=self.grace_s
        )
        for site in seen.targets:
            if seen.outcome(site) != USED:
                reason = seen.answers[site].why if site in seen.answers else f"it sent nothing ({why})"
                self.log_warning(fl_ctx, f"site {site} is left out: {reason}")
        found = {site: seen.answers[site].said for site in seen.targets if seen.outcome(site) == USED}
        if len(found) < self.quorum and not abort.triggered:
            msg = f"{len(found)} of {len(seen.targets)} answered ({why})"
            raise self._too_few(msg)
        return found

    def _too_few(self, what: str) -> InputError:
        mend = "bring the sites back, or ask for fewer (--quorum)"
        return InputError("MS-J174", f"{self.quorum} sites are to be compared, and {what}", mend=mend)
