"""The filter that opens what the server sends encrypted, before the site's training sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FLContextKey, ReturnCode

from medseg.federated.privacy.encryption import EncryptionError
from medseg.federated.privacy.sealed_exchange import WEIGHTS, asked_by
from medseg.federated.privacy.sealing import KEY_FILE, read_key

if TYPE_CHECKING:
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.shareable import Shareable

#: Under which NVFLARE's context of a task keeps what was opened, for the audit at its end; it does not leave the process.
ASKED = "medseg_asked"


class OpenFilter(Filter):
    """Stands among a site's filters on what comes, where its updates leave encrypted; it needs the sites' key."""

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Open global weights; other questions pass.

        Raises:
            EncryptionError: MS-J141 to MS-J146 what came cannot be opened with this site's key.
        """
        message = shareable.get("DXO")
        if shareable.get_return_code() != ReturnCode.OK or not isinstance(message, dict):
            return shareable
        if message.get("kind") != WEIGHTS:
            return shareable
        workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
        if workspace is None:
            raise EncryptionError("MS-J143", "the folder of this site is not known", mend="join again")
        key = read_key(Path(workspace.get_site_config_dir()) / KEY_FILE)
        asked = asked_by(message.get("data") or {}, message.get("meta") or {}, key)
        fl_ctx.set_prop(ASKED, asked, private=True, sticky=False)
        message["data"] = dict(asked.weights)
        return shareable
