"""Test-time augmentation by the symmetries that the anatomy has (Wang et al., Neurocomputing 2019).

A mirror image of a left structure is a right one: where left and right have labels of their own, the outputs of the
paired channels are swapped back along with the voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.errors import UsageError
from medseg.inferers.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn


@dataclass(frozen=True)
class Mirror:
    """One symmetry of the images that a network takes.

    Args:
        axes: spatial axes, 0 to 2, that are turned around.
        channels: the output channel that takes the place of each, for a network that has so many at least, or a
            function that gives them for their number; () where none is swapped.
    """

    axes: tuple[int, ...]
    channels: tuple[int, ...] | Callable[[int], tuple[int, ...]] = ()

    def order(self, count: int) -> list[int]:
        """The channels of `count` that take the places of all.

        Raises:
            UsageError: MS-U142 there are fewer than are swapped.
        """
        known = self.channels(count) if callable(self.channels) else self.channels
        if len(known) > count:
            what = f"the network returns {count} channels, and left and right are swapped among {len(known)}"
            raise UsageError("MS-U142", what, mend="give one label value for each output channel of the network")
        return [*known, *range(len(known), count)]


class Mirrored(Sampler):
    """Every sample of another sampler, as it is and in each mirror image.

    Args:
        inner: one network in an `Ensemble`, or several.
        mirrors: at least one.

    Raises:
        UsageError: MS-U149 there is no mirror.
    """

    def __init__(self, inner: Sampler, mirrors: Sequence[Mirror]) -> None:
        if not mirrors:
            raise UsageError(
                "MS-U149", "no symmetry is declared for test-time augmentation", mend='give mirrors such as ["LR"]'
            )
        self.inner = inner
        self.networks = inner.networks
        self.mirrors = (Mirror(()), *mirrors)
        self.count = inner.count * len(self.mirrors)

    def on(self, networks: Sequence[nn.Module]) -> Mirrored:
        """See `Sampler.on`."""
        return Mirrored(self.inner.on(networks), self.mirrors[1:])

    def samples(self, windows: Tensor, which: range, *, same: bool = False) -> Iterator[Tensor]:
        """See `Sampler.samples`; sample t is the inner sample t // M in the mirror t % M."""
        del same  # each mirror image is another input
        for t in which:
            source, mirror = divmod(t, len(self.mirrors))
            yield from self._mirrored(windows, source, self.mirrors[mirror])

    def _mirrored(self, windows: Tensor, source: int, mirror: Mirror) -> Iterator[Tensor]:
        axes = [2 + axis for axis in mirror.axes]
        turned = windows.flip(axes) if axes else windows
        for output in self.inner.samples(turned, range(source, source + 1)):
            back = output.flip(axes) if axes else output
            yield back[:, mirror.order(back.shape[1])] if mirror.channels else back
