"""What every kind of uncertainty has in common: several answers to the same windows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from medseg.inferers.outputs import full_resolution

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from medseg.inferers.replay import LinearHead


class Sampler(ABC):
    """Gives T outputs for each batch of windows: dropout masks, members of an ensemble, mirror images.

    Sample t is one and the same network in every window. A sampler is made for networks and can be put on copies of
    them (another device, another precision) with `on`.

    Attributes:
        networks: what computes; in eval mode.
        count: samples T, at least 2.
    """

    networks: tuple[nn.Module, ...]
    count: int

    @abstractmethod
    def on(self, networks: Sequence[nn.Module]) -> Sampler:
        """The same samples from copies of the networks."""

    @abstractmethod
    def samples(self, windows: Tensor, which: range, *, same: bool = False) -> Iterator[Tensor]:
        """The outputs (n, K, *roi) of some samples, in order.

        Args:
            windows: (n, C, *roi).
            which: indices of the samples.
            same: the windows are those of the call before, so what was computed for all samples can be used again.
        """

    def linear_head(self, windows: Tensor) -> LinearHead | None:
        """What all samples share but for one matrix product behind it, or None (which costs nothing)."""
        del windows
        return None

    def masks(self, features: int) -> Tensor:
        """(T, F) factors of the shared features; only where `linear_head` gives some."""
        raise NotImplementedError


def output_of(network: nn.Module, windows: Tensor) -> Tensor:
    """(n, K, *roi) at full resolution; the windows stay as they are, also where a network writes into its input."""
    return full_resolution(network(windows.clone()), windows)
