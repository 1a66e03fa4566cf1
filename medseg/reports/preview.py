"""preview.png: three slices through the middle of a segmentation, as a radiologist expects to see them.

Axial and coronal slices in radiological convention (the patient's right on the left of the picture), the sagittal
one with anterior on the left; every edge says which side it is. Sides come from the affine alone.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes

    from medseg.labels import LabelTable
    from medseg.volume import Volume

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
    cut = array.take(index, plane.normal)
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


def preview_png(
    image: Volume,
    segmentation: Volume,
    table: LabelTable,
    *,
    title: str = "",
    warning: str = "",
    legend: Iterable[str] | None = None,
) -> bytes:
    """A PNG of three orthogonal slices with the outlines of every structure.

    Args:
        image: (I, J, K) or (C, I, J, K), of which the first channel is shown.
        segmentation: (I, J, K) on the image's grid.
        table: names and colours; nested regions are outlined as a whole.
        title: above the slices.
        warning: printed in red above the title, such as that the scan lies outside the training data.
        legend: one line a structure of the table, its names by default.

    Returns:
        The bytes of the file; they hold no text but `title`, `warning` and `legend`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    picture = (image.reoriented("RAS").array if image.array.ndim == 3 else image.reoriented("RAS").array[0]).astype(
        np.float32, copy=False
    )
    turned = segmentation.reoriented("RAS")
    where = centre(turned.array)
    low, high = window_of(picture, image.source.modality)
    figure = Figure(figsize=(12, 5.2), dpi=100, facecolor="black")
    canvas = FigureCanvasAgg(figure)
    for number, plane in enumerate(PLANES):
        axes = figure.add_axes((0.005 + number * 0.3325, 0.12, 0.325, 0.74))
        grey = slice_of(picture, plane, where[plane.normal])
        labels = slice_of(turned.array, plane, where[plane.normal])
        spacing = turned.spacing_mm
        axes.imshow(
            grey,
            cmap="gray",
            vmin=low,
            vmax=high,
            origin="lower",
            aspect=spacing[plane.up] / spacing[plane.across],
            interpolation="nearest",
        )
        _outline(axes, labels, table)
        _letters(axes, plane)
    figure.text(0.5, 0.905, title, color="white", ha="center", va="center", fontsize=12, parse_math=False)
    if warning:
        figure.text(0.5, 0.965, warning, color="#ff5555", ha="center", va="center", fontsize=13, weight="bold")
    names = list(legend) if legend is not None else [label.name for label in table]
    patches = [Patch(facecolor=_colour(label.colour), label=name) for label, name in zip(table, names, strict=True)]
    if patches:
        box = figure.legend(
            handles=patches, loc="lower center", ncols=min(4, len(patches)), frameon=False, labelcolor="white"
        )
        for text in box.get_texts():
            text.set_parse_math(False)
    out = io.BytesIO()
    canvas.print_png(out, metadata={"Software": None})
    return out.getvalue()


def _outline(axes: Axes, labels: np.ndarray, table: LabelTable) -> None:
    known = [(label.region or (label.value,), label.colour) for label in table]
    strangers = set(np.unique(labels).tolist()) - {0} - {v for values, _ in known for v in values}
    for values, colour in [*known, *(((v,), (255, 255, 255)) for v in strangers)]:
        mask = np.pad(np.isin(labels, values), 1).astype(np.float32)  # a margin closes outlines at the edge
        if mask.any():
            rows, columns = (np.arange(-1, n - 1) for n in mask.shape)
            axes.contour(columns, rows, mask, levels=[0.5], colors=[_colour(colour)], linewidths=1.3)
    axes.set_xlim(-0.5, labels.shape[1] - 0.5)
    axes.set_ylim(-0.5, labels.shape[0] - 0.5)


def _letters(axes: Axes, plane: Plane) -> None:
    axes.set_axis_off()
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"))
    places += ((0.5, 0.02, "center", "bottom"), (0.5, 0.98, "center", "top"))
    for letter, (x, y, ha, va) in zip(plane.edges, places, strict=True):
        axes.text(x, y, letter, transform=axes.transAxes, ha=ha, va=va, color="#ffdd55", fontsize=12, weight="bold")


def _colour(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = (c / 255 for c in rgb)
    return red, green, blue
