"""Where instances lie and how large they are, in mm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.jit import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence


def centroids_mm(labels: np.ndarray, values: np.ndarray, spacing_mm: Sequence[float] | np.ndarray) -> np.ndarray:
    """Centres of mass.

    Args:
        labels: (I, J, K) integers.
        values: (V,) int64, ascending; each occurs in `labels`.
        spacing_mm: along the array axes.

    Returns:
        (V, 3) mm along the array axes, from the centre of voxel 0.
    """
    turned = labels.flags.f_contiguous and not labels.flags.c_contiguous
    sums = np.zeros((len(values), 4))
    if len(values):
        _moments(np.ascontiguousarray(labels.T if turned else labels), values, sums)
    means = sums[:, :3] / sums[:, 3:]
    return (means[:, ::-1] if turned else means) * np.asarray(spacing_mm, np.float64)


def sphere_radius_mm(volume_mm3: np.ndarray) -> np.ndarray:
    """Radius of the sphere of this volume."""
    return np.cbrt(np.asarray(volume_mm3) * 3 / (4 * np.pi))


@kernel
def _moments(labels, values, sums):
    """Sums of the three indices, and the number of voxels, of each value; runs along the last axis at once."""
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            row = labels[i, j]
            k = 0
            while k < len(row):
                start, value = k, row[k]
                k += 1
                while k < len(row) and row[k] == value:
                    k += 1
                if value == 0:
                    continue
                n = np.searchsorted(values, np.int64(value))
                if n < len(values) and values[n] == value:
                    length = k - start
                    sums[n, 0] += i * length
                    sums[n, 1] += j * length
                    sums[n, 2] += (start + k - 1) * length / 2
                    sums[n, 3] += length
