"""How a structure is formed: how thick, in how many pieces, and whether it is a tube.

Worked example: a cylinder of radius r and length L has the volume pi r^2 L. Of its largest inner ball, 4/3 pi r^3, it is
0.75 L / r balls, and its length V / (pi r^2) = L is about the diagonal of its box. A plate of the same thickness holds many
balls too, but its V / (pi r^2) is many diagonals; a ball is one ball.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cc3d
import edt
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A tube holds so many of its largest inner balls, and is at most so many diagonals of its box long.
_BALLS, _DIAGONALS = 15.0, 5.0
#: A distance map counts from voxel centre to voxel centre: on average this part of a voxel too far.
_HALF = 0.4


@dataclass(frozen=True)
class Form:
    """One structure in one case.

    Args:
        voxels: how many.
        pieces_ml: volume of each connected piece (26 neighbours), the largest first.
        radius_mm: of the largest ball inside the largest piece.
        tube: the largest piece is long and thin.
        size_mm: edges of the box of the largest piece, along the array's axes.
    """

    voxels: int
    pieces_ml: tuple[float, ...]
    radius_mm: float
    tube: bool
    size_mm: tuple[float, float, float]


def form_of(mask: np.ndarray, spacing_mm: Sequence[float]) -> Form:
    """Measure a mask (I, J, K) that is not empty."""
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    pieces = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26)
    counts = np.bincount(pieces.ravel())
    counts[0] = 0
    largest = int(counts.argmax())
    stats = cc3d.statistics(pieces)
    part = pieces[stats["bounding_boxes"][largest]] == largest
    size = [float(n * mm) for n, mm in zip(part.shape, spacing_mm, strict=True)]
    deepest = float(edt.edt(part, anisotropy=tuple(float(mm) for mm in spacing_mm), black_border=True).max())
    finest = float(min(spacing_mm))
    radius = max(deepest - _HALF * finest, 0.5 * finest)
    volume = float(counts[largest]) * voxel_ml * 1000.0
    balls = volume / (4 / 3 * math.pi * radius**3)
    tube = balls >= _BALLS and volume / (math.pi * radius**2) <= _DIAGONALS * math.hypot(*size)
    sizes = sorted((float(n) * voxel_ml for n in counts[1:] if n), reverse=True)
    return Form(int(counts.sum()), tuple(sizes), radius, tube, (size[0], size[1], size[2]))
