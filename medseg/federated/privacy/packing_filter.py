"""The filter that makes updates smaller at the site, and remembers what it did not send."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from nvflare.apis.dxo import DataKind
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import ReturnCode

from medseg.federated.exchange import CONTROL
from medseg.federated.privacy.packing import PackingError, pack

if TYPE_CHECKING:
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.shareable import Shareable
    from torch import Tensor


class PackFilter(Filter):
    """Stands behind the noise and before the audit.

    With `feedback`, what is not sent is kept in memory, one table a job: a site that restarts forgets it.

    Args:
        packing: 'fp16' or 'top_k'.
        keep: the share of entries that 'top_k' sends.
        feedback: add what was not sent to the next round's update.
    """

    def __init__(self, packing: str, keep: float = 0.1, feedback: bool = True) -> None:
        super().__init__()
        self.packing = packing
        self.keep = float(keep)
        self.feedback = bool(feedback)
        self._residual: dict[Any, dict[str, Tensor]] = {}
        self._lock = threading.Lock()

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Pack an update; everything else passes, for the audit to judge.

        Raises:
            PackingError: MS-J130 not finite or too large, MS-J131 top_k with SCAFFOLD's control variates, whose
                entries are of another size than weights, so that one of the two would hardly ever be sent.
        """
        message = shareable.get("DXO")
        if shareable.get_return_code() != ReturnCode.OK or not isinstance(message, dict):
            return shareable
        if message.get("kind") != DataKind.WEIGHT_DIFF or not isinstance(message.get("data"), dict):
            return shareable
        update = message["data"]
        if self.packing == "top_k" and any(str(name).startswith(CONTROL) for name in update):
            mend = "use privacy: fp16, or another algorithm than scaffold"
            raise PackingError("MS-J131", "top_k cannot carry SCAFFOLD's control variates", mend=mend)
        with self._lock:
            job = fl_ctx.get_job_id()
            packed, residual = pack(update, self.packing, keep=self.keep, residual=self._residual.get(job))
            if self.feedback:
                self._residual[job] = residual
        message["data"] = dict(packed.data)
        message["meta"] = {**(message.get("meta") or {}), **packed.meta}
        return shareable
