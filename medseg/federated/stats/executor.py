"""NVFLARE's client side of the statistics: reads this site's cases once, and answers the server's questions about them.

A job names this class and no code of its own; where the data lie says the site's own file. Errors stay here.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.shareable import Shareable, make_reply

from medseg.bundle.shipped import find_bundle
from medseg.federated.bundle_hash import require_hash
from medseg.federated.site_file import read_site_file
from medseg.federated.stats.exchange import told
from medseg.federated.stats.fingerprint import AT_LEAST
from medseg.federated.stats.reference import channels_and_labels
from medseg.federated.stats.survey import survey

if TYPE_CHECKING:
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.signal import Signal

    from medseg.federated.stats.survey import Survey

#: The task.
STATS = "stats"


class StatsExecutor(Executor):
    """Tells what this site's cases are like.

    Args:
        bundle: name of the one that is to be trained, whose channels and labels count where the data say none; '': none.
        bundle_hash: `bundle_hash` of it; any other is refused.
    """

    def __init__(self, bundle: str = "", bundle_hash: str = "") -> None:
        super().__init__()
        self.bundle = bundle
        self.bundle_hash = bundle_hash
        self._seen: Survey | None = None
        self._held_out = False

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Answer one question; see `medseg.federated.stats.exchange`."""
        del abort_signal
        if task_name != STATS:
            return make_reply(ReturnCode.TASK_UNSUPPORTED)
        try:
            asked = from_shareable(shareable).data
            if self._seen is None:
                self._seen = self._look(fl_ctx)
            answer = told(self._seen, asked, AT_LEAST, held_out=self._held_out)
            return DXO(DataKind.STATISTICS, data=answer).to_shareable()
        except Exception:
            logging.getLogger(__name__).exception("nothing was told of this site's cases")
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)

    def _look(self, fl_ctx: FLContext) -> Survey:
        workspace: Any = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
        said = read_site_file(workspace.get_site_config_dir())
        self._held_out = said.held_out
        if not self.bundle:
            return survey(Path(said.data))
        root = find_bundle(said.bundle or self.bundle)
        require_hash(root, self.bundle_hash)
        channels, labels = channels_and_labels(root)
        return survey(Path(said.data), channels, labels=labels)
