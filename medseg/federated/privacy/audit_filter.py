"""The last filter of every site: lets out what the site's own list allows, writes the manifest, stops everything else."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvflare.apis.dxo import DXO
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FilterKey, FLContextKey, ReturnCode
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply

from medseg.errors import printable
from medseg.federated.privacy import manifest
from medseg.federated.privacy.allow_list import AllowList, OutgoingError, site_allow_list
from medseg.federated.privacy.opening_filter import ASKED
from medseg.federated.privacy.outgoing import UPDATES, Outgoing, released
from medseg.federated.privacy.sealed_exchange import sealed_outgoing
from medseg.federated.privacy.sealing import KEY_FILE, read_key

if TYPE_CHECKING:
    from nvflare.apis.fl_context import FLContext

_MEND = "nothing was sent; type medseg federate audit to see what was refused, and tell the authors of the job"
_RETURN_CODES = {value for name, value in vars(ReturnCode).items() if not name.startswith("_")}


class AuditFilter(Filter):
    """Stands last among the site's own filters on results.

    What it lets out is made anew, so nothing of the original message leaves but what `released` copied. A result that
    is an error leaves as its code alone, without text. It fails closed: whatever goes wrong here, nothing is sent.

    Args:
        packing: the form in which this site's updates leave, as the filter before it makes them.
        record: the manifest, in the top folder of its kit.
        encrypted: what may leave of an update is encrypted here, as the last thing that happens to it.
    """

    def __init__(self, packing: str = "none", record: str = manifest.FILE, encrypted: bool = False) -> None:
        super().__init__()
        self.packing = packing
        self.encrypted = bool(encrypted)
        self.record = record
        self._list: AllowList | None = None
        self._lock = threading.Lock()

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Let a result out, made anew, or raise.

        Raises:
            OutgoingError: MS-J110 no list, MS-J111 to MS-J117 something that is not on it, MS-J118 the job brings
                filters that would run after this one, MS-J119 the manifest cannot be written.
            EncryptionError: MS-J140, MS-J143, MS-J145 an update that cannot be encrypted, so that it does not leave.
        """
        workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
        if workspace is None:
            raise OutgoingError("MS-J110", "the folder of this site is not known; nothing was sent", mend=_MEND)
        record, local = Path(workspace.get_root_dir()) / self.record, Path(workspace.get_site_config_dir())
        row = {"job": fl_ctx.get_job_id(), "task": fl_ctx.get_prop(FLContextKey.TASK_NAME)}
        with self._lock:
            try:
                if self._list is None:
                    self._list = site_allow_list(local)
                self._refuse_later_filters(fl_ctx)
                found, said = _made_anew(shareable, self._list, self.packing)
                if self.encrypted and isinstance(found, Outgoing) and found.kind in UPDATES:
                    found = sealed_outgoing(found, fl_ctx.get_prop(ASKED), read_key(local / KEY_FILE))
                    said |= {"kind": found.kind, **found.row}
            except Exception as error:
                # Anything that goes wrong stops the message, and the manifest says so.
                code, what = getattr(error, "code", "MS-J111"), getattr(error, "what", type(error).__name__)
                refused = {"verdict": manifest.REFUSED, "code": code, "what": printable(what)}
                manifest.append_row(record, row | refused)
                self.log_error(fl_ctx, f"{code} {printable(what)}; nothing was sent")
                raise
            manifest.append_row(record, row | said)
        return DXO(found.kind, found.data, found.meta).to_shareable() if isinstance(found, Outgoing) else found

    def _refuse_later_filters(self, fl_ctx: FLContext) -> None:
        """A job's own filters run after a site's, so they could change what was let out; nothing may follow this one."""
        runner = fl_ctx.get_prop(FLContextKey.RUNNER)
        task = f"{fl_ctx.get_prop(FLContextKey.TASK_NAME)}{FilterKey.DELIMITER}{FilterKey.OUT}"
        later = (getattr(runner, "task_result_filters", None) or {}).get(task)
        if later and later[-1] is not self:  # in a simulation the job itself brings the sites' filters
            what = "the job brings filters on results, which would run after the audit"
            raise OutgoingError("MS-J118", f"{what}; nothing was sent", mend="ask for the job without filters")


def _made_anew(shareable: Any, allowed: AllowList, packing: str) -> tuple[Outgoing | Shareable, dict[str, Any]]:
    if not isinstance(shareable, Shareable):
        raise OutgoingError("MS-J111", f"it would have sent a {type(shareable).__name__}", mend=_MEND)
    code = shareable.get_return_code()
    if code != ReturnCode.OK:
        known = code if code in _RETURN_CODES else ReturnCode.ERROR
        return make_reply(known), {"verdict": manifest.NOTHING, "code": known}
    others = [str(key) for key in shareable if key not in (ReservedHeaderKey.HEADERS, "DXO")]
    message = shareable.get("DXO")
    if others or not isinstance(message, dict) or set(message) != {"kind", "data", "meta"}:
        what = f"it would have sent {printable(others[0][:60]) if others else 'something else'} beside or instead of an update"
        raise OutgoingError("MS-J111", what, mend=_MEND)
    found = released(message["kind"], message["data"], message["meta"], allowed, packing=packing)
    return found, {"verdict": manifest.SENT, "kind": found.kind, **found.row}
