"""preview.png: three slices through the middle of a segmentation, as a radiologist expects to see them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from medseg.reports.planes import PLANES, centre, letters, outline, show, slice_of, window_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes

    from medseg.labels import LabelTable
    from medseg.volume import Volume


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
        legend: one line a structure of the table, its names by default; nothing is named where it is empty.

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
        show(axes, grey, plane, turned.spacing_mm, cmap="gray", vmin=low, vmax=high)
        _outlines(axes, slice_of(turned.array, plane, where[plane.normal]), table)
        letters(axes, plane)
    figure.text(0.5, 0.905, title, color="white", ha="center", va="center", fontsize=12, parse_math=False)
    if warning:
        figure.text(0.5, 0.965, warning, color="#ff5555", ha="center", va="center", fontsize=13, weight="bold")
    names = list(legend) if legend is not None else [label.name for label in table]
    named = table if names or legend is None else ()
    patches = [Patch(facecolor=_colour(label.colour), label=name) for label, name in zip(named, names, strict=True)]
    if patches:
        box = figure.legend(
            handles=patches, loc="lower center", ncols=min(4, len(patches)), frameon=False, labelcolor="white"
        )
        for text in box.get_texts():
            text.set_parse_math(False)
    out = io.BytesIO()
    canvas.print_png(out, metadata={"Software": None})
    return out.getvalue()


def _outlines(axes: Axes, labels: np.ndarray, table: LabelTable) -> None:
    known = [(label.region or (label.value,), label.colour) for label in table]
    there = set(np.unique(labels).tolist()) - {0}
    strangers = there - {v for values, _ in known for v in values}
    known = [(values, colour) for values, colour in known if not there.isdisjoint(values)]
    for values, colour in [*known, *(((v,), (255, 255, 255)) for v in strangers)]:
        outline(axes, np.isin(labels, values), colors=[_colour(colour)], linewidths=1.3)
    axes.set_xlim(-0.5, labels.shape[1] - 0.5)
    axes.set_ylim(-0.5, labels.shape[0] - 0.5)


def _colour(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = (c / 255 for c in rgb)
    return red, green, blue
