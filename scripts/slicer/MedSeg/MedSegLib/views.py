"""What the slice views show once a result is loaded: scan, uncertainty over it, and the most uncertain place."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

OPACITY = 0.7
#: The most uncertain place is sought among blocks of about this edge, mm: one voxel alone is often noise.
BLOCK_MM = 6.0


def show_layers(scene: Any, volume: Any, overlay: Any) -> None:
    """The scan as background and a map over it in every slice view; None leaves that layer as it is."""
    for node in _nodes(scene, "vtkMRMLSliceCompositeNode"):
        if volume is not None:
            node.SetBackgroundVolumeID(volume.GetID())
        if overlay is not None:
            node.SetForegroundVolumeID(overlay.GetID())
            node.SetForegroundOpacity(OPACITY)


def jump(scene: Any, ras: tuple[float, float, float]) -> None:
    """Centre every slice view on a place, RAS mm."""
    for node in _nodes(scene, "vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*ras)


def most_uncertain(volume: Any) -> tuple[float, float, float] | None:
    """Where a map is highest: the highest voxel of the block with the highest mean, in world RAS mm; None for a map of zeros."""
    image = volume.GetImageData()
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])  # (K, J, I)
    steps = [max(1, round(BLOCK_MM / spacing)) for spacing in volume.GetSpacing()[::-1]]
    index = peak(values, steps)
    if index is None:
        return None
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    point = matrix.MultiplyPoint((*(float(n) for n in index[::-1]), 1.0))[:3]
    parent = volume.GetParentTransformNode()
    if parent is not None:
        to_world = vtk.vtkGeneralTransform()
        parent.GetTransformToWorld(to_world)
        point = to_world.TransformPoint(point)
    return tuple(point)


def peak(values: np.ndarray, steps: list[int]) -> tuple[int, int, int] | None:
    """The index of the highest value in the block with the highest mean.

    Args:
        values: 3D; values that are not finite count as 0.
        steps: edge of a block along each axis, voxels; those at the far ends may be smaller.

    Returns:
        The index, or None when nothing is above 0.
    """
    starts = [np.arange(0, size, step) for size, step in zip(values.shape, steps)]
    counts = [np.minimum(step, size - at) for size, step, at in zip(values.shape, steps, starts)]
    sums = np.stack([_layer_sums(values[at : at + steps[0]], starts) for at in starts[0]])
    counts = counts[0][:, None, None] * counts[1][:, None] * counts[2]
    block = np.unravel_index(int(np.argmax(sums / counts)), sums.shape)
    place = tuple(slice(b * s, (b + 1) * s) for b, s in zip(block, steps))
    inside = np.nan_to_num(values[place], nan=0, posinf=0, neginf=0)
    within = np.unravel_index(int(np.argmax(inside)), inside.shape)
    if not inside[within] > 0:
        return None
    return tuple(int(b * s + w) for b, s, w in zip(block, steps, within))


def _layer_sums(slab: np.ndarray, starts: list[np.ndarray]) -> np.ndarray:
    """The sums of the blocks of one layer of them; `slab` holds its slices."""
    total = slab.sum(axis=0, dtype=np.float32 if slab.dtype == np.float32 else np.float64)
    if not np.isfinite(total.sum()):
        total = np.nan_to_num(slab, nan=0, posinf=0, neginf=0).sum(axis=0, dtype=np.float64)
    total = np.add.reduceat(total, starts[1], axis=0).astype(np.float64)
    return np.add.reduceat(total, starts[2], axis=1)


def _nodes(scene: Any, kind: str) -> list[Any]:
    return [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]
