"""How a server that may read updates makes the next global state of them: checked, averaged, its optimiser's step taken.

`sealed_sums` is the other way, for updates that it must not read; the rounds are the same (`controller`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.federated.aggregation import control_step, mean_change, moments_of, server_step, shares
from medseg.federated.exchange import (
    UpdateError,
    check_update,
    dxo_to_update,
    shapes_of,
    with_control,
    without_control,
)
from medseg.federated.privacy.encryption import EncryptionError
from medseg.federated.privacy.packing import unpack
from medseg.federated.privacy.sealing import KEY
from medseg.federated.server_state import ServerState, not_finite

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from nvflare.apis.dxo import DXO
    from torch import Tensor

    from medseg.federated.algorithm import Algorithm
    from medseg.federated.exchange import Update


class PlainSums:
    """Of one training.

    Args:
        how: it goes.
        sent: what travels of the state before the first round.
        learnt: names of the entries that learn by gradients; the others are averaged in any case.
    """

    def __init__(self, how: Algorithm, sent: Mapping[str, Tensor], learnt: Collection[str]) -> None:
        self.how = how
        self.sent = dict(sent)
        self.learnt = frozenset(learnt)
        self._expected: dict[str, tuple[int, ...]] = {}

    def begin(self) -> ServerState:
        """Before the first round."""
        learnt = {name: value for name, value in self.sent.items() if name in self.learnt}
        control = {name: value * 0.0 for name, value in learnt.items()} if self.how.control_variates else {}
        return ServerState(0, self.sent, control=control)

    def require_fitting(self, now: ServerState, folder: Path) -> None:
        """Let only a state pass that this training can go on from.

        Raises:
            InputError: MS-J016 it is of another network, encrypted, or of an algorithm that keeps other things.
        """
        if shapes_of(now.state) != shapes_of(self.sent):
            what = "the last global model is encrypted" if now.said else "the last global model is of another network"
            raise InputError("MS-J016", what, file=folder, mend="give this training another name")
        control = shapes_of(self.begin().control)
        learnt = {name: value for name, value in self.sent.items() if name in self.learnt}
        moments = shapes_of(moments_of(learnt, self.how.server)) if now.rounds else {}
        for kept, wanted, name in (
            (now.control, control, "SCAFFOLD's control variates"),
            (now.moments, moments, "the moments of the server's optimiser"),
        ):
            if shapes_of(kept) != wanted:
                what = f"the last global model is of another algorithm than {self.how.name}: {name} differ"
                mend = "go on with the algorithm that it was begun with, or give this training another name"
                raise InputError("MS-J016", what, file=folder, mend=mend)

    def message(self, now: ServerState, *, training: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What all sites get, and the meta beside it."""
        both = with_control(now.state, now.control if training else {})
        self._expected = shapes_of(both)
        return both, {}

    def update_of(self, dxo: DXO) -> Update:
        """A site's update, checked.

        Raises:
            UpdateError: MS-J001 to MS-J006 it must not be averaged.
            PackingError: MS-J132 it cannot be unpacked.
            EncryptionError: MS-J145 it is encrypted.
        """
        if KEY in (dxo.meta or {}):
            mend = "submit with a kit of this project, or let the site take `encrypted` out of its privacy.json"
            raise EncryptionError("MS-J145", "it sent an encrypted update, and the job asks for plain ones", mend=mend)
        dxo.data = unpack(dxo.data, dxo.meta, self._expected)
        update = dxo_to_update(dxo)
        check_update(update.diff, self._expected)
        return update

    def shares(self, updates: Mapping[str, Update]) -> dict[str, float]:
        """Each site's share of the mean."""
        return shares({site: update.cases for site, update in updates.items()}, self.how.share_cap)

    def after(
        self, now: ServerState, updates: Mapping[str, Update], share: Mapping[str, float], sites: int
    ) -> tuple[ServerState, dict[str, float]]:
        """The state after a round, and what its line in the table says beside the sites.

        Args:
            now: before it.
            updates: sound ones.
            share: of each.
            sites: all that train, those that are missing too.

        Raises:
            UpdateError: MS-J007 it would not be finite.
        """
        change = mean_change([update.diff for update in updates.values()], [share[site] for site in updates])
        weights, _ = without_control(change)
        buffers = frozenset(self.sent) - self.learnt
        state, moments = server_step(now.state, weights, self.how.server, now.moments, buffers)
        control = now.control
        if control:
            changes = [without_control(update.diff)[1] for update in updates.values()]
            control = control_step(control, changes, sites)
        after = ServerState(now.rounds + 1, state, moments, control)
        if broken := not_finite(after):
            raise _too_large(broken, updates)
        drift = math.sqrt(sum(float(value.double().square().sum()) for value in weights.values()))
        return after, {"drift": drift}


def _too_large(broken: str, updates: Mapping[str, Update]) -> UpdateError:
    """Each update was finite and their sum, square or step is not: whose was the largest is worth knowing."""
    largest = {
        site: max(float(value.abs().max()) for value in update.diff.values() if value.numel())
        for site, update in updates.items()
    }
    site = max(largest, key=lambda name: largest[name])
    what = (
        f"the global model would not be finite ({broken}); the largest change, {largest[site]:.3g}, is of site {site}"
    )
    return UpdateError("MS-J007", what, mend="look at that site's log, or leave it out, and go on with --resume")
