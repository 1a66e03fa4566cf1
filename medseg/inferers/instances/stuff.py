"""Classes without instances over a whole volume: each voxel as the tile saw it in whose core it lies.

Cores (tiles.py) fill the volume without overlap, and a voxel of a core lies at least half an overlap away from any edge
inside the volume. So nothing is blended: one byte a voxel is kept, whatever the number of classes, where means of
probabilities would take a volume of floats for each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.inferers.instances.tiles import Tile, View


def in_core(stuff: Tensor | None, tile: Tile) -> Tensor | None:
    """Of a tile's map (d, h, w) the part in its core, in the computer's memory."""
    if stuff is None:
        return None
    place = zip(tile.core_low, tile.core_high, tile.low, strict=True)
    return stuff[tuple(slice(a - first, b - first) for a, b, first in place)].detach().cpu().clone()


def stuff_map(views: Sequence[View], shape: Sequence[int]) -> Tensor | None:
    """(D, H, W) uint8 from the cores of tiles, at least one, that fill a volume; None where the network knows no stuff."""
    out = torch.zeros(*shape, dtype=torch.uint8)
    for view in views:
        if view.stuff is None:
            return None
        core = zip(view.tile.core_low, view.tile.core_high, strict=True)
        out[tuple(slice(a, b) for a, b in core)] = view.stuff
    return out
