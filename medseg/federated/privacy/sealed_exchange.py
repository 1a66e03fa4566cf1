"""A site's two ends of an encrypted round: the global weights that came, and the update that leaves.

An update is a difference, so that it can be clipped and noised; what is encrypted are the weights after it, the global
weights that came plus the difference. So both ends have to know what came in this round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from medseg.federated.exchange import CASES
from medseg.federated.privacy.encryption import EncryptionError
from medseg.federated.privacy.packing import LAYOUT, PackingError, layout_of
from medseg.federated.privacy.sealing import KEY, MOST, PER_CASE, SHARE, key_id, opened, sealed, share_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from medseg.federated.privacy.outgoing import Outgoing

#: Kind of the message in which weights travel, NVFLARE's `DataKind`.
WEIGHTS = "WEIGHTS"


@dataclass(frozen=True)
class Asked:
    """What the server asks a site to go on from.

    Args:
        weights: what travels of the global state, opened.
        per_case: of the site's share, see `sealing.share_of`; None where no encrypted update is asked for.
        most: likewise.
    """

    weights: Mapping[str, Tensor]
    per_case: Any = None
    most: Any = None


def asked_by(data: Mapping[str, Any], meta: Mapping[str, Any], key: bytes) -> Asked:
    """Open a message of the server's; before the first round its weights are as they are.

    Args:
        data: of the message.
        meta: of the message.
        key: of the sites.

    Raises:
        EncryptionError: MS-J143 it belongs to another key; else as `opened`.
    """
    weights = dict(data)
    if KEY in meta:
        if meta[KEY] != key_id(key):
            raise EncryptionError(
                "MS-J143", "the global model is encrypted with another key than this site's",
                mend="all sites need one key: ask the other sites for it, or begin a new training",
            )  # fmt: skip
        try:
            layout = layout_of(meta.get(LAYOUT))
        except PackingError as error:
            raise EncryptionError("MS-J146", error.what, mend=error.mend) from error
        weights = opened(data, meta.get(SHARE, 0.0), layout, key)
    return Asked(weights, meta.get(PER_CASE), meta.get(MOST))


def sealed_outgoing(update: Outgoing, asked: Asked | None, key: bytes) -> Outgoing:
    """Encrypt an update that may leave.

    Args:
        update: as the audit made it anew.
        asked: what came in this round.
        key: of the sites.

    Raises:
        EncryptionError: MS-J145 the job does not ask for encrypted updates; MS-J140 numbers that cannot be encrypted.
    """
    if asked is None or asked.per_case is None or set(update.data) != set(asked.weights):
        raise EncryptionError(
            "MS-J145", "this site's updates leave encrypted or not at all, and the job asks for plain ones",
            mend="ask for a job that is encrypted; whoever submits needs a kit of this project",
        )  # fmt: skip
    share = share_of(update.meta[CASES], asked.per_case, asked.most)
    table = sealed({name: asked.weights[name] + diff for name, diff in update.data.items()}, share, key)
    row = {
        **update.row,
        "types": ["ckks"],
        "bytes": sum(value.numel() * value.element_size() for value in table.values()),
    }
    return replace(
        update, kind=WEIGHTS, data=dict(table), meta={**update.meta, SHARE: share, KEY: key_id(key)}, row=row
    )
