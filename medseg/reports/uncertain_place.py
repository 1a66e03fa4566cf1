"""Where a viewer should open: at the most uncertain place, else in the largest structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from medseg.labels import LabelTable
    from medseg.volume import Volume

#: Side of the neighbourhood whose mean decides: smaller than most lesions, larger than a stray voxel.
NEIGHBOURHOOD_MM = 5.0
_SAMPLE = 200_000


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
    from scipy import ndimage

    mean = uncertainty.astype(np.float32)
    for axis, mm in enumerate(spacing_mm):
        width = max(3, 2 * round(NEIGHBOURHOOD_MM / mm / 2) + 1)
        ndimage.uniform_filter1d(mean, width, axis, output=mean, mode="constant")
    highest = float(mean.max())
    # float32 running sums leave a trace of about 1e-7 where everything is 0.
    return None if highest < 1e-5 else _middle(mean >= highest * (1 - 1e-4))


def largest_structure(labels: np.ndarray, table: LabelTable | None) -> tuple[int, int, int] | None:
    """The voxel of the structure with most voxels that lies nearest to its centre of mass; None without any.

    Args:
        labels: (I, J, K) label map, values >= 0.
        table: nested structures count as a whole.
    """
    counts = np.bincount(labels[labels > 0].astype(np.intp))
    present = np.flatnonzero(counts).tolist()
    if not present:
        return None
    regions = [*(label.region or (label.value,) for label in table or ()), *((value,) for value in present)]
    region = max(regions, key=lambda values: sum(counts[v] for v in values if v < len(counts)))
    return _middle(np.isin(labels, region))


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


def _middle(mask: np.ndarray) -> tuple[int, int, int]:
    """Of the voxels of a mask the one nearest to their mean; of a large mask a sample of them decides."""
    flat = np.flatnonzero(mask)
    points = np.column_stack(np.unravel_index(flat[:: max(1, len(flat) // _SAMPLE)], mask.shape))
    i, j, k = points[np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1))]
    return int(i), int(j), int(k)
