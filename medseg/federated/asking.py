"""A question to all connected sites that ends, whatever becomes of a site.

What NVFLARE's own controllers do was measured first: they wait for ever for a site that was killed, or killed and restarted
(it comes back under a new token). Here every question has a deadline and a quorum, each answer is judged as it comes, and a
site that is not there counts as missing.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.impl.controller import Controller

from medseg.federated.rounds import LOST, REFUSED, Answer, Round, over

if TYPE_CHECKING:
    from nvflare.apis.client import Client
    from nvflare.apis.dxo import DXO
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.shareable import Shareable
    from nvflare.apis.signal import Signal

#: Seconds between two looks at what has come.
_EVERY_S = 0.1
#: NVFLARE's own limit of a task lies so many seconds behind the deadline, which ends it first.
_BEHIND_S = 60


class AskingController(Controller):
    """What the controllers of a training and of statistics have in common; `control_flow` and `judged` are theirs."""

    def __init__(self) -> None:
        super().__init__()
        self._round: Round | None = None

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Nothing: `control_flow` does all, so that what goes wrong is told in one place."""

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """End the question that is open."""
        self.cancel_all_tasks(fl_ctx=fl_ctx)

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """An answer to a question that is over: it is told and left out."""
        del client_task_id, result
        self.log_warning(fl_ctx, f"site {client.name} answered {task_name} too late; it is left out")

    @abstractmethod
    def judged(self, site: str, task_name: str, result: Shareable) -> Answer:
        """What an answer is worth; called in threads of NVFLARE's, one at a time for a task."""

    def connected(self) -> tuple[str, ...]:
        """Names of the sites that can be asked."""
        engine: Any = self._engine
        return tuple(sorted(client.name for client in engine.get_clients()))

    def ask(
        self, task_name: str, message: DXO, abort: Signal, fl_ctx: FLContext,
        *, quorum: int, deadline_s: float, grace_s: float,
    ) -> tuple[Round, str]:  # fmt: skip
        """Send a task to all connected sites and wait until it is over.

        Args:
            task_name: of the executor's.
            message: for each of them.
            abort: ends it at once.
            fl_ctx: NVFLARE's.
            quorum: sound answers that are wanted; 0: all are waited for.
            deadline_s: seconds after which it is over in any case.
            grace_s: seconds for the others once the quorum is there.

        Returns:
            The answers, and why it is over: a reason of `over`'s, or "aborted".
        """
        self._round = seen = Round(self.connected(), time.monotonic())
        task = Task(
            task_name,
            message.to_shareable(),
            timeout=math.ceil(deadline_s) + _BEHIND_S,
            after_task_sent_cb=self._sent,
            result_received_cb=self._received,
        )
        self.broadcast(task, fl_ctx, targets=list(seen.targets), min_responses=len(seen.targets))
        why = None
        while why is None and not abort.triggered:
            gone = [site for site in seen.targets if site in LOST or self.get_client_disconnect_time(site) is not None]
            why = over(seen, time.monotonic(), quorum=quorum, deadline_s=deadline_s, grace_s=grace_s, gone=gone)
            if why is None:
                time.sleep(_EVERY_S)
        seen.close()
        self.cancel_task(task)
        return seen, why or "aborted"

    def _sent(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        del fl_ctx
        if self._round is not None:
            self._round.take(client_task.client.name, time.monotonic())

    def _received(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        """The question that is open is taken first: what is late must not count as an answer to the next one."""
        site, result, now = client_task.client.name, client_task.result, self._round
        answer = Answer(REFUSED, why="it sent nothing")
        if result is not None:
            answer = self.judged(site, client_task.task.name, result)
        client_task.result = None
        if now is None or not now.answer(site, answer, time.monotonic()):
            self.log_warning(fl_ctx, f"site {site} answered twice, or too late; it is left out")
