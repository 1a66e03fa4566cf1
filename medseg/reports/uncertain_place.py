"""Where a viewer should open: at the most uncertain place, else in the largest structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from medseg.labels import LabelTable
    from medseg.volume import Volume

#: Side of the neighbourhood whose mean decides: smaller than most lesions, larger than a stray voxel.
NEIGHBOURHOOD_MM = 5.0
#: Means that differ by less than this share are equal: 0.3 in float32 and 0.3 summed up in another order.
_EQUAL = 1e-4
#: So many voxels of a plane, or of a structure, stand for all of it where a middle is sought.
_ROWS, _SAMPLE = 2_000, 200_000
_CHUNK = 1 << 22


def most_uncertain(uncertainty: np.ndarray, spacing_mm: tuple[float, float, float]) -> tuple[int, int, int] | None:
    """The voxel at the centre of the box, about `NEIGHBOURHOOD_MM` wide, of highest mean uncertainty.

    One stray voxel of certain failure loses against a smaller uncertainty that many neighbours share. Where several
    boxes are equal (a saturated region) it is the one nearest to the middle of them all.

    Args:
        uncertainty: (I, J, K) of numbers >= 0; outside of it counts as 0.
        spacing_mm: along the array axes.

    Returns:
        None where the map is 0 everywhere.
    """
    order = _slowest_first(uncertainty)
    planes = uncertainty.transpose(order)
    depth, *width = (max(3, 2 * round(NEIGHBOURHOOD_MM / spacing_mm[axis] / 2) + 1) for axis in order)
    # Sums along the slowest axis run from plane to plane, so only one plane of them is in memory.
    column = np.zeros(planes.shape[1:])
    highest, found = 0.0, []
    for number in range(len(planes) + depth // 2):
        if number < len(planes):
            column += planes[number]
        if number >= depth:
            column -= planes[number - depth]
        centre = number - depth // 2
        # No box has a higher mean than the highest column in it: most planes need no closer look.
        if centre < 0 or column.max() / depth < highest * (1 - _EQUAL) or column.max() < 1e-6:
            continue
        mean = _box_sums(column, width) / (depth * width[0] * width[1])
        highest = max(highest, float(mean.max()))
        rows = np.argwhere(mean >= highest * (1 - _EQUAL))
        rows = rows[:: max(1, len(rows) // _ROWS)]
        found.append((np.insert(rows, 0, centre, axis=1), mean[tuple(rows.T)]))
    if not found:
        return None
    points, means = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return _middle(points[means >= highest * (1 - _EQUAL)], order)


def largest_structure(labels: np.ndarray, table: LabelTable | None) -> tuple[int, int, int] | None:
    """The voxel of the structure with most voxels that lies nearest to its centre of mass; None without any.

    Args:
        labels: (I, J, K) label map, values 0 to 65535.
        table: nested structures count as a whole.
    """
    order = _slowest_first(labels)
    turned = labels.transpose(order)
    flat = turned.reshape(-1)
    counts = np.zeros(1 << 16, np.int64)
    for start in range(0, len(flat), _CHUNK):
        counts += np.bincount(flat[start : start + _CHUNK].astype(np.intp), minlength=len(counts))
    present = [int(value) for value in np.flatnonzero(counts) if value]
    if not present:
        return None
    regions = [*(label.region or (label.value,) for label in table or ()), *((value,) for value in present)]
    region = list(max(regions, key=lambda values: int(counts[list(values)].sum())))
    inside = np.zeros(len(counts), bool)
    inside[region] = True
    members = np.flatnonzero(inside[flat])
    points = np.column_stack(np.unravel_index(members[:: max(1, len(members) // _SAMPLE)], turned.shape))
    return _middle(points, order)


def place_mm(segmentation: Volume, uncertainty: np.ndarray | None = None) -> tuple[float, float, float]:
    """RAS mm of the most uncertain place, else of the largest structure, else of the middle of the grid."""
    found = most_uncertain(uncertainty, segmentation.spacing_mm) if uncertainty is not None else None
    if found is None:
        found = largest_structure(segmentation.array, segmentation.labels)
    if found is None:
        i, j, k = (n // 2 for n in segmentation.grid.shape)
        found = i, j, k
    x, y, z = (float(v) for v in segmentation.grid.to_world(np.array(found)))
    return x, y, z


def _slowest_first(array: np.ndarray) -> tuple[int, int, int]:
    """The axes as they lie in memory: walking them so is several times as fast on NIfTI's Fortran order."""
    i, j, k = sorted(range(3), key=lambda axis: -abs(array.strides[axis]))
    return i, j, k


def _box_sums(plane: np.ndarray, width: list[int]) -> np.ndarray:
    """The sum of the box around each pixel, zero outside of the plane."""
    for axis, n in enumerate(width):
        margin = [(0, 0), (0, 0)]
        margin[axis] = (n // 2 + 1, n // 2)
        sums = np.cumsum(np.pad(plane, margin), axis=axis)
        plane = sums[n:] - sums[:-n] if axis == 0 else sums[:, n:] - sums[:, :-n]
    return plane


def _middle(points: np.ndarray, order: tuple[int, int, int]) -> tuple[int, int, int]:
    """Of (N, 3) voxels, axes in `order`, the one nearest to their mean, axes in the array's own order."""
    nearest = points[np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1))]
    i, j, k = (int(nearest[order.index(axis)]) for axis in range(3))
    return i, j, k
