"""How a server that cannot read updates makes the next global state of them: it adds ciphertexts, and holds no key.

It hears how many cases each site has before the first round, and tells all of them by what to multiply; the sites weigh
before they encrypt (`privacy.sealing`). The key that most sites have is the training's; the server knows keys by their
digests alone, and which is right is settled when the first encrypted round is over, not by who answers first. Whether an update is finite and of this network is looked at by each site's own
audit before it is encrypted; the server sees how many ciphertexts there are, and that they are some.

Where a site that was asked is missing, the others' shares grow by one factor. Under a `share_cap` this can leave one of
them above the cap in that round, which with plain updates does not happen.

NVFLARE's own filters and aggregator for encrypted updates (`nvflare.app_opt.he`) were looked at and left: they weigh by
steps or by a fixed table, not by cases with a cap; they multiply under encryption, for which a ciphertext must be twice as
large; and what they encrypt nobody has looked through before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, UsageError
from medseg.federated.aggregation import weighing
from medseg.federated.exchange import CASES, METRICS, Update, scalar_metrics, shapes_of
from medseg.federated.privacy.encryption import EncryptionError
from medseg.federated.privacy.packing import LAYOUT
from medseg.federated.privacy.sealing import (
    CIPHERTEXTS,
    KEY,
    LENGTHS,
    MOST,
    PER_CASE,
    SHARE,
    checked,
    require_ciphertexts,
    share_of,
    sum_of,
)
from medseg.federated.server_state import ServerState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from nvflare.apis.dxo import DXO
    from torch import Tensor

    from medseg.federated.algorithm import Algorithm


def require_possible(how: Algorithm) -> None:
    """Refuse what a server would have to read updates for.

    Raises:
        UsageError: MS-J144 SCAFFOLD, or another optimiser of the server than the plain mean.
    """
    what = ""
    if how.control_variates:
        what = "SCAFFOLD's variates are of another size than weights, and would travel beside them"
    elif how.server.kind != "average" or how.server.learning_rate != 1.0:
        what = f"the server's optimiser ({how.server.kind}, rate {how.server.learning_rate:g}) computes with what it must not read"
    if what:
        mend = "use fedavg or fedprox, whose server takes the mean, or privacy without `encrypted`"
        raise UsageError("MS-J144", f"{how.name} does not go with encrypted updates: {what}", mend=mend)


class SealedSums:
    """Of one training.

    Args:
        how: it goes.
        sent: what travels of the state before the first round; that is no secret.
    """

    def __init__(self, how: Algorithm, sent: Mapping[str, Tensor]) -> None:
        require_possible(how)
        self.how = how
        self.sent = dict(sent)
        self.total = sum(value.numel() for value in self.sent.values())
        self._layout = [[name, list(shape)] for name, shape in sorted(shapes_of(self.sent).items())]
        self._cases: dict[str, int] = {}
        self._weighing = (0.0, 0.0)
        self._key = ""

    def begin(self) -> ServerState:
        """Before the first round."""
        return ServerState(0, self.sent)

    def require_fitting(self, now: ServerState, folder: Path) -> None:
        """Let only a state pass that this training can go on from.

        Raises:
            InputError: MS-J016 it is of another network, or of an algorithm that needs a server which reads.
        """
        try:
            if KEY in now.said:
                checked(now.state, self.total)
            fits = KEY in now.said or shapes_of(now.state) == shapes_of(self.sent)
        except EncryptionError:
            fits = False
        if not fits:
            mend = "give this training another name"
            raise InputError("MS-J016", "the last global model is of another network", file=folder, mend=mend)
        if now.control or now.moments:
            what = f"the last global model is of another algorithm than {self.how.name}"
            mend = "go on with the algorithm that it was begun with, or give this training another name"
            raise InputError("MS-J016", what, file=folder, mend=mend)

    def unknown(self, sites: Collection[str]) -> list[str]:
        """Sites whose cases were not told yet."""
        return [site for site in sites if site not in self._cases]

    def count(self, cases: Mapping[str, int]) -> None:
        """Take in how many training cases sites have; 0 is a held-out one."""
        self._cases |= cases

    def message(self, now: ServerState, *, training: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What all sites get, and the meta beside it."""
        meta: dict[str, Any] = {}
        self._key = str(now.said.get(KEY, ""))
        if self._key:
            meta = {KEY: self._key, SHARE: float(now.said[SHARE]), LAYOUT: self._layout}
        if training:
            known = {site: number for site, number in self._cases.items() if number > 0}
            self._weighing = weighing(known, self.how.share_cap) if known else (1.0, 1.0)
            meta |= dict(zip((PER_CASE, MOST), self._weighing, strict=True))
        return now.state, meta

    def update_of(self, dxo: DXO) -> Update:
        """A site's update, as far as it can be looked at.

        Raises:
            EncryptionError: MS-J145 it is not encrypted, MS-J143 with another key than this training's, MS-J142 these are
                no ciphertexts, MS-J146 it is not as long as this training's, or was weighed otherwise than asked.
        """
        meta = dxo.meta or {}
        if KEY not in meta or not isinstance(dxo.data, dict):
            mend = "give the site a kit of this project, with `encrypted` in its privacy.json"
            raise EncryptionError("MS-J145", "it sent an update that is not encrypted", mend=mend)
        require_ciphertexts(dxo.data, self.total)
        cases, steps = meta.get(CASES), meta.get("NUM_STEPS_CURRENT_ROUND")
        if type(cases) is not int or cases < 1 or meta.get(SHARE) != share_of(cases, *self._weighing):
            raise EncryptionError(
                "MS-J146", "it was weighed otherwise than asked", mend="use the same medseg everywhere"
            )
        key = str(meta[KEY])
        if self._key and key != self._key:
            raise _another_key(key, self._key)
        metrics = scalar_metrics(meta.get(METRICS) or {})
        data = {name: dxo.data[name] for name in (CIPHERTEXTS, LENGTHS)}
        return Update(data, cases, steps if isinstance(steps, int) else 0, metrics, key)

    def of_another_key(self, updates: Mapping[str, Update]) -> dict[str, EncryptionError]:
        """Of a round that is over: the sites with another key than this training's, and what to tell them (MS-J143).

        Where no round has settled the key yet it is that of most sites, then of most cases, then of the first site by name.
        """
        holders: dict[str, list[str]] = {}
        for site in sorted(updates):
            holders.setdefault(updates[site].key, []).append(site)

        def weight(key: str) -> tuple[int, int]:
            return len(holders[key]), sum(updates[site].cases for site in holders[key])

        # `max` takes the first of equals, and they stand by their sites' names.
        used = self._key or max(holders, key=weight, default="")
        return {site: _another_key(one.key, used) for site, one in updates.items() if one.key != used}

    def shares(self, updates: Mapping[str, Update]) -> dict[str, float]:
        """Each site's share of the mean: what it weighed by, of those that came."""
        found = {site: share_of(update.cases, *self._weighing) for site, update in updates.items()}
        total = math.fsum(found.values())
        return {site: share / total for site, share in found.items()}

    def after(
        self, now: ServerState, updates: Mapping[str, Update], share: Mapping[str, float], sites: int
    ) -> tuple[ServerState, dict[str, float]]:
        """The state after a round, sealed; its arguments as for `PlainSums.after`, the updates those of one key.

        Raises:
            EncryptionError: MS-J142 what came are no ciphertexts that can be added.
        """
        del share, sites
        summed = sum_of([update.diff for update in updates.values()], self.total)
        weight = math.fsum(share_of(update.cases, *self._weighing) for update in updates.values())
        key = next(iter(updates.values())).key  # of all: the others were left out
        return ServerState(now.rounds + 1, summed, said={KEY: key, SHARE: repr(weight)}), {}


def _another_key(key: str, used: str) -> EncryptionError:
    what = f"it is encrypted with the key {key[:16]}, and this training with {used}"
    return EncryptionError("MS-J143", what, mend="give all sites the same key")
