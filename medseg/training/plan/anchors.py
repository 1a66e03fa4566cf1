"""Anchors of a Mask R-CNN: on which levels of the pyramid, and of which sizes, so that nearly every object is reached.

Few anchors on coarse levels are cheap, many on fine ones find small objects. Tried in this order, the first set wins that
can reach enough objects with an IoU of one half, wherever these lie against the cells (`medseg.boxes.anchor_sizes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from medseg.boxes.anchor_sizes import Fitted, fit_sizes
from medseg.training.plan.choice import Choice, many

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

#: Share of the objects that anchors must reach with IoU 0.5.
ENOUGH = 0.95
#: Sizes that augmentation gives the objects too: it zooms by 0.8 to 1.25.
_ZOOMS = (0.8, 1.0, 1.25)
#: Shapes on a level.
_COUNTS = (1, 2, 3, 4)
_REACH = 0.5


@dataclass(frozen=True)
class Anchors:
    """Of `medseg.networks.MaskRCNN`.

    Args:
        sizes: for each level of the pyramid, finest first: sizes in voxels; [] where a level proposes nothing.
        recall: share of the objects within reach.
        choice: what and why.
    """

    sizes: list[list[list[int]]]
    recall: float
    choice: Choice


def anchors_for(
    sizes_mm: np.ndarray, spacing_mm: Sequence[float], strides: Sequence[Sequence[int]], enough: float = ENOUGH
) -> Anchors:
    """Fit anchors.

    Args:
        sizes_mm: (N, 3) of the training objects' boxes.
        spacing_mm: of the network's grid.
        strides: of the pyramid's levels, finest first.
        enough: share of the objects to reach.
    """
    sizes = torch.cat([zoom * torch.from_numpy(sizes_mm).double() for zoom in _ZOOMS])
    best: tuple[float, int, int, Fitted] | None = None
    for first, last, count in _candidates(len(strides)):
        fitted = fit_sizes(sizes, count, spacing_mm, strides[first : last + 1])
        recall = fitted.best_possible_recall[_REACH]
        if best is None or recall > best[0] + 1e-9:
            best = (recall, first, last, fitted)
        if recall >= enough:
            break
    assert best is not None, "a pyramid has at least one level"
    recall, first, last, fitted = best
    voxels = [[[max(round(v), 1) for v in shape] for shape in level] for level in fitted.sizes_voxels.tolist()]
    listed = [[] for _ in range(first)] + voxels
    median = " x ".join(f"{v:.3g}" for v in sizes.median(0).values.tolist())
    where = " and ".join("x".join(map(str, stride)) for stride in strides[first : last + 1])
    why = f"{many(len(sizes_mm), 'object')}, the median box {median} mm; zoomed as in training {recall:.1%} can be proposed with IoU {_REACH:g}"
    value = f"{many(len(voxels[0]), 'shape')} on cells of {where} voxels: {voxels}"
    return Anchors(listed, recall, Choice("anchors", value, why))


def _candidates(levels: int) -> list[tuple[int, int, int]]:
    """(first level, last level, shapes), the cheapest first: a level costs eight times what the next coarser one does."""
    spans = [(first, last) for first in range(levels) for last in range(first, levels)]
    every = [(first, last, count) for first, last in spans for count in _COUNTS]
    return sorted(every, key=lambda one: sum(8.0 ** (levels - n) for n in range(one[0], one[1] + 1)) * one[2])
