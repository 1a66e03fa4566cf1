"""Where something is measured: everywhere, in the foreground, near it, or along its surface.

Background dilutes: of a scan with one small lesion 99.9 % of the voxels are right and certain whatever the model
does, so a score over the whole volume says little (Reinke et al., Nature Methods 2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import edt
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Errors further than this from prediction and reference are no matter of where a boundary runs.
NEAR_MM = 5.0


def foreground(pred: np.ndarray, ref: np.ndarray) -> np.ndarray:
    """(I, J, K) bool: prediction or reference above 0."""
    _check_shapes(pred, ref)
    return (pred > 0) | (ref > 0)


def near(
    pred: np.ndarray,
    ref: np.ndarray,
    within_mm: float = NEAR_MM,
    *,
    spacing_mm: Sequence[float],
    threads: int | None = 1,
) -> np.ndarray:
    """(I, J, K) bool: at most `within_mm` from the foreground of prediction or reference, which it contains.

    Args:
        pred: (I, J, K) label map, integer or bool.
        ref: likewise.
        within_mm: between voxel centres.
        spacing_mm: along the array axes.
        threads: for the distance transform; None: as many as there are processors.
    """
    return _within(foreground(pred, ref), within_mm, spacing_mm, threads)


def boundary_band(
    pred: np.ndarray, ref: np.ndarray, band_mm: float, *, spacing_mm: Sequence[float], threads: int | None = 1
) -> np.ndarray:
    """(I, J, K) bool: at most `band_mm` from the surface of any structure in prediction or reference.

    The surface is that of `definition="border"`: voxels above 0 that share a face with another value or with the
    outside of the volume.

    Args:
        pred: (I, J, K) label map, integer or bool.
        ref: likewise.
        band_mm: between voxel centres, to either side.
        spacing_mm: along the array axes.
        threads: for the distance transform; None: as many as there are processors.
    """
    _check_shapes(pred, ref)
    return _within(border(pred) | border(ref), band_mm, spacing_mm, threads)


def border(labels: np.ndarray) -> np.ndarray:
    """(I, J, K) bool: voxels above 0 that share a face with another value or with the outside of the volume."""
    edge = np.zeros_like(labels, bool)
    for axis in range(3):
        turned, out = np.moveaxis(labels, axis, 0), np.moveaxis(edge, axis, 0)
        change = turned[1:] != turned[:-1]
        out[1:] |= change
        out[:-1] |= change
        out[:1] = out[-1:] = True
    edge &= labels > 0
    return edge


def _within(seeds: np.ndarray, distance_mm: float, spacing_mm: Sequence[float], threads: int | None) -> np.ndarray:
    spacing = np.asarray(spacing_mm, np.float64)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        msg = f"spacing_mm holds three lengths above 0, got {spacing_mm}"
        raise ValueError(msg)
    if not 0 <= distance_mm < np.inf:
        msg = f"a distance is 0 mm or more, got {distance_mm}"
        raise ValueError(msg)
    if seeds.flags.f_contiguous and not seeds.flags.c_contiguous:
        return _within(seeds.T, distance_mm, spacing_mm[::-1], threads).T
    out = np.zeros(seeds.shape, bool)
    lines = [np.flatnonzero(seeds.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if not len(lines[0]):
        return out
    margin = np.ceil(distance_mm / spacing).astype(int)
    box = tuple(slice(max(0, x[0] - m), x[-1] + 1 + m) for x, m in zip(lines, margin, strict=True))
    away = edt.edt(np.ascontiguousarray(~seeds[box]), anisotropy=tuple(spacing), parallel=threads or 0)
    out[box] = away <= distance_mm * (1 + 1e-6)  # the distances are float32
    return out


def _check_shapes(pred: np.ndarray, ref: np.ndarray) -> None:
    if pred.shape != ref.shape or pred.ndim != 3:
        msg = f"two label maps of one shape (I, J, K) make a region, got pred {pred.shape} and ref {ref.shape}"
        raise ValueError(msg)
