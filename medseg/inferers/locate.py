"""Coarse to fine: windows only where the network's own locator sees a structure, with a margin.

The locator looks at the scan's overview (transforms/overview.py) in one or a few windows. The box holds every cell that
may be a structure (`maybe`, a low probability), so what it doubts is segmented, not dropped. And where the answer is not to
be relied on the whole volume is done, as without a locator:

    no cell is surely a structure                           before: the locator found nothing in this image
    the network finds nothing in the box                    after: the two contradict each other
    a structure reaches a face of the box inside the image  after: the box cuts it

Each is an event. What remains is a structure that the locator is sure is not there beside one that it found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.errors import UsageError
from medseg.inferers.body import body_box, grow_to_windows
from medseg.inferers.memory import Event
from medseg.inferers.second_look import LOCATED
from medseg.inferers.sliding import SlidingWindowInferer
from medseg.inferers.windows import by, window_grid
from medseg.networks.located import locator_of
from medseg.transforms.overview import overview

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from medseg.networks.located import Locator

#: Share of a window of the overview that the next one covers again.
_OVERLAP = 0.5


class Locate:
    """Finds the part of an image that windows are laid on; `locate` of `SlidingWindowInferer`.

    Args:
        margin: voxels of the network's grid around the cells that may be a structure, along each axis.
        sure: probability from which on a cell is surely a structure.
        maybe: probability above which a cell may be one.

    Raises:
        UsageError: MS-U145 the numbers make no sense.
    """

    def __init__(self, margin: Sequence[int], sure: float = 0.5, maybe: float = 0.1) -> None:
        self.margin = tuple(int(n) for n in margin)
        self.sure, self.maybe = float(sure), float(maybe)
        if len(self.margin) != 3 or min(self.margin) < 0 or not 0 < self.maybe <= self.sure < 1:
            what = f"a locator with margin {self.margin}, sure {sure:g} and maybe {maybe:g}"
            raise UsageError("MS-U145", what, mend="give three margins of 0 or more, and 0 < maybe <= sure < 1")

    def __call__(
        self, image: Tensor, networks: Iterable[Any], roi_size: Sequence[int] | int, overlap: Sequence[float] | float
    ) -> tuple[tuple[slice, ...] | None, Event]:
        """Where the structures of an image are.

        Args:
            image: (B, C, *space), preprocessed.
            networks: all that will segment it; the box holds what any of their locators sees.
            roi_size: window shape of the segmentation.
            overlap: of its windows.

        Returns:
            One slice per spatial axis, None where the whole image must be done; and what to tell about it.
        """
        shape = tuple(image.shape[2:])
        found: list[tuple[slice, ...]] = []
        for network in networks:
            locator = locator_of(network)
            if locator is None:
                return None, Event("MS-M225", "the network that computes has no locator: the whole image is segmented")
            probability = self._probability(image, locator)
            surest = float(probability.amax(dim=(1, 2, 3, 4)).min())
            cells = body_box(probability, self.maybe)
            if not surest >= self.sure or cells is None:
                said = f"the locator finds nothing (probability {surest:.2g} at most): the whole image is segmented"
                return None, Event("MS-M224", said)
            found.append(_voxels(cells, locator.factors, shape))
        box = tuple(
            slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*found, strict=True)
        )
        box = grow_to_windows(box, shape, roi_size, overlap, self.margin)
        inside = tuple(side.stop - side.start for side in box)
        fewer, before = (len(window_grid(space, roi_size, overlap)) for space in (inside, shape))
        said = f"located in {by(inside)} of {by(shape)} voxels: {fewer} windows instead of {before}"
        return box, Event(LOCATED, said)

    def _probability(self, image: Tensor, locator: Locator) -> Tensor:
        """(B, 1, *cells), by windows that fall back as all do when memory runs out."""
        look = SlidingWindowInferer(locator.window, _OVERLAP, precision="fp32")
        return look(overview(image, locator.factors), locator).sigmoid()


def _voxels(cells: Sequence[slice], factors: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """A box of cells as one of voxels; the last cell may hold fewer than its factor."""
    return tuple(
        slice(side.start * f, min(side.stop * f, size)) for side, f, size in zip(cells, factors, shape, strict=True)
    )
