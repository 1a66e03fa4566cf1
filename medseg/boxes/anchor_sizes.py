"""Anchor sizes fitted to the objects of a data set, and how much a detector can find with them at best.

A pyramid looks for large objects on coarse levels. All levels share one set of shapes, counted in cells, because they
share one head: an object of 8 x 8 x 4 mm on a level whose cells are 2 x 2 x 2 mm has the shape 4 x 4 x 2 cells. So

1. each object goes to the level on which its geometric mean size is nearest, in ratio, to a typical number of cells,
   which is chosen so that the median object lands in the middle of the pyramid;
2. shapes in cells are picked one by one from the objects themselves, each time the one that raises the mean of their best
   IoU most (a greedy choice, within 1 - 1/e of the best: Nemhauser et al., 1978), then moved to the medians of the objects
   they serve as long as that helps (k-means on 1 - IoU; Redmon and Farhadi, CVPR 2017);
3. the best possible recall is counted with anchors where they really are: an object lies anywhere between the middles of
   cells, so that even a perfect shape does not fit a small object exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: IoU from which an object counts as within reach of an anchor.
REACH = (0.3, 0.5)
#: Fewer cells and objects fall between anchors, more and they outgrow what a cell of a level sees.
_CELLS = (2.0, 8.0)
#: Objects and candidates that the fit looks at, evenly spread by volume; more change nothing but the time.
_OBJECTS, _CANDIDATES = 4096, 256
#: Places of an object against the cells, over which recall is averaged.
_PLACES = 64


@dataclass(frozen=True, eq=False)
class Fitted:
    """Anchor sizes of a pyramid of L levels with A shapes each, finest level first.

    Args:
        shapes: (A, 3) float64 in cells, the same on every level, by rising volume.
        sizes_mm: (L, A, 3) float64, what they are in mm on each level.
        sizes_voxels: (L, A, 3) float64, what `anchors_of_level` takes.
        typical_cells: geometric mean size in cells that decides the level of an object.
        objects_per_level: (L,) int64, how many objects each level is for.
        mean_iou: mean over objects and places of the best IoU of any anchor.
        best_possible_recall: IoU -> share of objects, over all places, that some anchor reaches with it.
    """

    shapes: Tensor
    sizes_mm: Tensor
    sizes_voxels: Tensor
    typical_cells: float
    objects_per_level: Tensor
    mean_iou: float
    best_possible_recall: Mapping[float, float]


def fit_sizes(sizes_mm: Tensor, count: int, spacing_mm: Sequence[float], strides: Sequence[Sequence[int]]) -> Fitted:
    """Fit `count` shapes for each level to the sizes of the training objects.

    Args:
        sizes_mm: (N, 3) sizes of objects along the network's axes.
        count: shapes for each level, A.
        spacing_mm: of the network's grid.
        strides: for each level, finest first, the voxels that a cell spans along each axis.

    Returns:
        The sizes and what they can find.

    Raises:
        ValueError: no object, a size that is not positive and finite, or count < 1.
    """
    objects = sizes_mm.detach().cpu().double().reshape(-1, 3)
    if len(objects) == 0 or count < 1 or not (torch.isfinite(objects) & (objects > 0)).all():
        msg = (
            f"anchors are fitted to objects of positive size and count >= 1, got {len(objects)} objects, count {count}"
        )
        raise ValueError(msg)
    voxel = torch.tensor(list(spacing_mm), dtype=torch.float64)
    stride = torch.tensor([list(s) for s in strides], dtype=torch.float64)
    cell_mm = stride * voxel
    typical = _typical_cells(objects, cell_mm)
    level = levels_of(objects, cell_mm, typical)
    some = _spread(objects, _OBJECTS)
    shapes = _shapes(objects[some] / cell_mm[level[some]], count)
    shapes = shapes[shapes.prod(1).argsort(stable=True)]
    best = best_iou(objects[some] / voxel, list(shapes * stride[:, None]), stride)
    return Fitted(
        shapes=shapes,
        sizes_mm=shapes * cell_mm[:, None],
        sizes_voxels=shapes * stride[:, None],
        typical_cells=typical,
        objects_per_level=torch.bincount(level, minlength=len(stride)),
        mean_iou=float(best.mean()),
        best_possible_recall={iou: float((best >= iou).double().mean()) for iou in REACH},
    )


def best_iou(sizes: Tensor, anchors: Sequence[Tensor], strides: Tensor) -> Tensor:
    """What the best anchor reaches of each object, wherever it lies against the cells.

    Args:
        sizes: (N, 3) of the objects, voxels.
        anchors: for each level, finest first, (A, 3) sizes in voxels; A = 0 where a level proposes nothing.
        strides: (L, 3) of the levels, voxels.

    Returns:
        (N, places) float64 IoU.
    """
    root = 1.2207440846057596  # x^4 = x + 1: its powers fill a cube evenly (Roberts, 2018)
    step = torch.tensor([1 / root, 1 / root**2, 1 / root**3], dtype=torch.float64)
    place = (0.5 + torch.arange(_PLACES, dtype=torch.float64)[:, None] * step) % 1 * strides[-1]
    best = torch.zeros(len(sizes), _PLACES, dtype=torch.float64)
    size = sizes[:, None]
    for shapes, cell in zip(anchors, strides, strict=True):
        away = (place % cell - cell / 2).abs()[None]
        for shape in shapes:
            side = torch.minimum((size + shape) / 2 - away, torch.minimum(size, shape)).clamp(min=0)
            shared = side.prod(-1)
            best = torch.maximum(best, shared / (size.prod(-1) + shape.prod() - shared))
    return best


def levels_of(sizes_mm: Tensor, cell_mm: Tensor, typical_cells: float) -> Tensor:
    """(N,) int64, the level on which each size is nearest, in ratio, to `typical_cells` (geometric mean; ties finer).

    Args:
        sizes_mm: (N, 3), positive.
        cell_mm: (L, 3) size of a cell on each level, finest first: stride x spacing.
        typical_cells: see `Fitted`.
    """
    away = (_log_mean(sizes_mm)[:, None] - _log_mean(cell_mm)[None] - math.log(typical_cells)).abs()
    return away.argmin(1)


def _typical_cells(objects: Tensor, cell_mm: Tensor) -> float:
    """Cells that the median object has on the middle level, within sensible bounds."""
    cells = math.exp(float(_log_mean(objects).median() - _log_mean(cell_mm[(len(cell_mm) - 1) // 2])))
    return min(max(cells, _CELLS[0]), _CELLS[1])


def _log_mean(sizes: Tensor) -> Tensor:
    """Logarithm of the geometric mean of the last axis."""
    return sizes.log().mean(-1)


def _spread(objects: Tensor, most: int) -> Tensor:
    """Indices of at most so many objects, evenly spread by volume."""
    order = objects.prod(1).argsort(stable=True)
    return order[torch.linspace(0, len(order) - 1, min(most, len(order))).round().long()]


def _shapes(objects: Tensor, count: int) -> Tensor:
    """(count, 3) shapes for objects (N, 3), both in cells."""
    candidates = objects[_spread(objects, _CANDIDATES)]
    table = _iou_of_sizes(candidates, objects)
    chosen: list[Tensor] = []
    reached = torch.zeros(len(objects), dtype=torch.float64)
    while len(chosen) < count:
        gain = torch.maximum(table, reached).mean(1) - reached.mean()
        best = int(gain.argmax())
        if gain[best] < 1e-9:  # fewer shapes than asked for: the rest fills the steps between two levels
            spare = count - len(chosen)
            middle = objects.log().median(0).values.exp()
            chosen += [middle * 2 ** ((n + 1) / (spare + 1) - 0.5) for n in range(spare)]
            break
        chosen.append(candidates[best])
        reached = torch.maximum(reached, table[best])
    return _refined(torch.stack(chosen), objects)


def _refined(shapes: Tensor, objects: Tensor, rounds: int = 50) -> Tensor:
    """Shapes moved to the medians of the objects they serve, as long as the mean best IoU rises."""
    table = _iou_of_sizes(shapes, objects)
    for _ in range(rounds):
        serves = table.argmax(0)
        moved = shapes.clone()
        for n in serves.unique().tolist():
            moved[n] = objects[serves == n].median(0).values
        after = _iou_of_sizes(moved, objects)
        if after.amax(0).mean() <= table.amax(0).mean() + 1e-9:
            break
        shapes, table = moved, after
    return shapes


def _iou_of_sizes(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) IoU of boxes of sizes a (N, 3) and b (M, 3) around one centre."""
    shared = torch.minimum(a[:, None], b[None]).prod(-1)
    return shared / (a.prod(-1)[:, None] + b.prod(-1)[None] - shared)
