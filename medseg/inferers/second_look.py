"""Was a located box right? What was found inside can say that it was not (see locate.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.inferers.memory import Event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

#: Code of the event that says which box was located.
LOCATED = "MS-M223"


def second_look(labels: Sequence[Tensor], box: tuple[slice, ...], shape: Sequence[int]) -> Event | None:
    """Whether what was found in a located box says that the box was wrong.

    Args:
        labels: (*box) of each image.
        box: one slice per spatial axis.
        shape: (*space).

    Returns:
        What to tell, before the whole image is segmented; None where nothing speaks against the box.
    """
    if all(side.stop - side.start == size for side, size in zip(box, shape, strict=True)):
        return None
    for found in labels:
        if not found.any():
            return Event("MS-M226", "nothing was found where the locator sees something: the whole image is segmented")
        for axis, (side, size) in enumerate(zip(box, shape, strict=True)):
            low = side.start > 0 and bool(found.select(axis, 0).any())
            high = side.stop < size and bool(found.select(axis, -1).any())
            if low or high:
                return Event("MS-M226", "a structure reaches the edge of the located box: the whole image is segmented")
    return None
