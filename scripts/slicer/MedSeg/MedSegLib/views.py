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
    sums = counts = None
    for axis, step in enumerate(steps):
        starts = np.arange(0, values.shape[axis], step)
        if sums is None:
            sums = np.stack(
                [
                    np.nan_to_num(values[s : s + step], nan=0, posinf=0, neginf=0).sum(axis=0, dtype=np.float64)
                    for s in starts
                ]
            )
        else:
            sums = np.add.reduceat(sums, starts, axis=axis)
        along = np.minimum(step, values.shape[axis] - starts).reshape([-1 if n == axis else 1 for n in range(3)])
        counts = along if counts is None else counts * along
    block = np.unravel_index(int(np.argmax(sums / counts)), sums.shape)
    place = tuple(slice(b * s, (b + 1) * s) for b, s in zip(block, steps))
    inside = np.nan_to_num(values[place], nan=0, posinf=0, neginf=0)
    within = np.unravel_index(int(np.argmax(inside)), inside.shape)
    if not inside[within] > 0:
        return None
    return tuple(int(b * s + w) for b, s, w in zip(block, steps, within))


def _nodes(scene: Any, kind: str) -> list[Any]:
    return [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]
