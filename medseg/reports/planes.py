"""Slices as a radiologist expects to see them.

Axial and coronal slices in radiological convention (the patient's right on the left of the picture), the sagittal
one with anterior on the left; every edge says which side it is. Sides come from the affine alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CT_WINDOW = (-160.0, 240.0)


@dataclass(frozen=True)
class Plane:
    """How one slice of a RAS volume is shown.

    Args:
        name: as radiologists call it.
        normal: array axis across the slice.
        across: array axis from the left of the picture to its right.
        up: array axis from its bottom to its top.
        reverse: whether `across` runs towards its low end.
        edges: letters at the left, right, bottom and top edge.
    """

    name: str
    normal: int
    across: int
    up: int
    reverse: bool
    edges: tuple[str, str, str, str]


#: In a RAS volume index 0 grows to the patient's right, so it is reversed to put R on the left.
PLANES = (
    Plane("axial", 2, 0, 1, True, ("R", "L", "P", "A")),
    Plane("coronal", 1, 0, 2, True, ("R", "L", "I", "S")),
    Plane("sagittal", 0, 1, 2, True, ("A", "P", "I", "S")),
)


def slice_of(array: np.ndarray, plane: Plane, index: int) -> np.ndarray:
    """(rows, columns) of a RAS (I, J, K) array as shown: row 0 at the bottom, column 0 at the left."""
    cut = array[(slice(None),) * plane.normal + (index,)]
    remaining = [axis for axis in range(3) if axis != plane.normal]
    if remaining.index(plane.up) == 1:
        cut = cut.T
    return cut[:, ::-1] if plane.reverse else cut


def centre(labels: np.ndarray) -> tuple[int, int, int]:
    """The slice of each axis with half of the foreground on either side, the middle of an empty map."""
    mask = labels > 0
    if not mask.any():
        i, j, k = (n // 2 for n in labels.shape)
    else:
        totals = [mask.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
        i, j, k = (int(np.searchsorted(np.cumsum(t), t.sum() / 2)) for t in totals)
    return i, j, k


def window_of(image: np.ndarray, modality: str | None) -> tuple[float, float]:
    """Lowest and highest grey value shown: a soft tissue window for CT, else the middle 98 % of what is not air."""
    if modality == "CT":
        return CT_WINDOW
    sample = image.reshape(-1)[:: max(1, image.size // 200_000)]
    sample = sample[np.isfinite(sample)]
    sample = sample[sample > sample.min()] if sample.size and sample.max() > sample.min() else sample
    if not sample.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(sample, (1, 99.5)))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def show(axes: Axes, cut: np.ndarray, plane: Plane, spacing_mm: tuple[float, float, float], **options) -> None:
    """Draw a slice in its true proportions, voxel centres at whole coordinates; `options` go to `imshow`."""
    aspect = spacing_mm[plane.up] / spacing_mm[plane.across]
    axes.imshow(cut, origin="lower", aspect=aspect, interpolation="nearest", **options)
    axes.set_axis_off()


def outline(axes: Axes, mask: np.ndarray, **style) -> None:
    """Draw the outline of a (rows, columns) mask over a slice; `style` goes to `contour`."""
    if mask.any():
        padded = np.pad(mask, 1).astype(np.float32)  # a margin closes outlines at the edge
        rows, columns = (np.arange(-1, n - 1) for n in padded.shape)
        axes.contour(columns, rows, padded, levels=[0.5], **style)


def letters(axes: Axes, plane: Plane, size: float = 12) -> None:
    """Write at every edge which side of the patient it is, readable on any grey."""
    from matplotlib.patheffects import withStroke

    dark = [withStroke(linewidth=2, foreground="black")]
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"))
    places += ((0.5, 0.02, "center", "bottom"), (0.5, 0.98, "center", "top"))
    for letter, (x, y, ha, va) in zip(plane.edges, places, strict=True):
        style = {"ha": ha, "va": va, "color": "#ffdd55", "fontsize": size, "weight": "bold", "path_effects": dark}
        axes.text(x, y, letter, transform=axes.transAxes, **style)
