"""What changed between two scans of one patient: volume, and which lesions are new, gone, larger or smaller.

Lesions are connected components. Those of the earlier and of the later scan that touch the same voxels are one group
(a lesion may split, two may merge); a group's volume before and after decides what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cc3d
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medseg.metrics.contingency import contingency

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Change:
    """One structure from one session to the next.

    Args:
        before_ml: volume in the earlier scan, mL.
        after_ml: volume in the later one, mL.
        new: lesions of the later scan that touch none of the earlier.
        vanished: lesions of the earlier scan that touch none of the later.
        growing: groups whose volume rose by more than `growth`.
        shrinking: groups whose volume fell by more than `growth`.
        stable: the other groups.
    """

    before_ml: float
    after_ml: float
    new: int
    vanished: int
    growing: int
    shrinking: int
    stable: int

    def rows(self) -> Iterator[tuple[str, float]]:
        """(name, value)."""
        yield from (("volume_before_ml", self.before_ml), ("volume_after_ml", self.after_ml))
        yield "volume_change_ml", self.after_ml - self.before_ml
        for name in ("new", "vanished", "growing", "shrinking", "stable"):
            yield f"n_{name}", getattr(self, name)


def change(
    before: np.ndarray,
    after: np.ndarray,
    *,
    voxel_ml: float,
    growth: float = 0.25,
    connectivity: Literal[6, 18, 26] = 26,
    minimum_mm3: float = 0.0,
) -> Change:
    """Compare a structure's masks in two scans on one grid.

    Args:
        before: (I, J, K) bool.
        after: the same shape.
        voxel_ml: volume of one voxel, mL.
        growth: relative change of a group's volume from which it counts as growing or shrinking.
        connectivity: 6, 18 or 26.
        minimum_mm3: smaller components are left out of both.

    Raises:
        ValueError: the shapes differ.
    """
    smallest = int(np.ceil(minimum_mm3 / (1000.0 * voxel_ml) - 1e-9))
    earlier, later = (components(mask, connectivity, smallest) for mask in (before, after))
    table = contingency(earlier, later)
    n_earlier, n_later = int(earlier.max(initial=0)), int(later.max(initial=0))
    sizes = np.zeros((2, n_earlier + n_later))
    rows, columns = table.pred_values[table.index[:, 0]], table.ref_values[table.index[:, 1]]
    touching = (rows > 0) & (columns > 0)
    for value, size in zip(table.pred_values, table.pred_sizes, strict=True):
        if value:
            sizes[0, value - 1] = size
    for value, size in zip(table.ref_values, table.ref_sizes, strict=True):
        if value:
            sizes[1, n_earlier + value - 1] = size
    n = n_earlier + n_later
    links = coo_array((np.ones(touching.sum()), (rows[touching] - 1, n_earlier + columns[touching] - 1)), shape=(n, n))
    count, group = connected_components(links, directed=False) if n else (0, np.empty(0, np.int64))
    old, now = (np.bincount(group, side, count) if n else np.empty(0) for side in sizes)
    both = (old > 0) & (now > 0)
    growing, shrinking = both & (now > (1 + growth) * old), both & (now < (1 - growth) * old)
    return Change(
        np.count_nonzero(before) * voxel_ml,
        np.count_nonzero(after) * voxel_ml,
        int((old == 0).sum()),
        int((now == 0).sum()),
        int(growing.sum()),
        int(shrinking.sum()),
        int((both & ~growing & ~shrinking).sum()),
    )


def components(mask: np.ndarray, connectivity: Literal[6, 18, 26] = 26, smallest: int = 0) -> np.ndarray:
    """Connected components of a mask (I, J, K) numbered 1, 2, ...; those of fewer than `smallest` voxels left out."""
    labels = cc3d.connected_components(mask, connectivity=connectivity)
    if smallest <= 1:
        return labels
    counts = np.bincount(labels.ravel(order="K"))
    kept = np.flatnonzero(counts[1:] >= smallest) + 1
    renumber = np.zeros(len(counts), labels.dtype)
    renumber[kept] = np.arange(1, len(kept) + 1)
    return renumber[labels]
