"""An ensemble: each sample is another trained network (Lakshminarayanan et al., NeurIPS 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.errors import UsageError
from medseg.inferers.sampler import Sampler, output_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn


class Ensemble(Sampler):
    """One sample for each network.

    Args:
        networks: in eval mode, all with the same outputs; one alone is of use inside `Mirrored`.

    Raises:
        UsageError: MS-U148 there is no network.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        if not networks:
            raise UsageError("MS-U148", "an ensemble without a network", mend="give it the networks of its members")
        self.networks = tuple(networks)
        self.count = len(self.networks)

    def on(self, networks: Sequence[nn.Module]) -> Ensemble:
        """See `Sampler.on`."""
        return Ensemble(networks)

    def samples(self, windows: Tensor, which: range, *, same: bool = False) -> Iterator[Tensor]:
        """See `Sampler.samples`."""
        del same  # the members share nothing
        for t in which:
            yield output_of(self.networks[t], windows)
