"""What a phantom looks like: three slices through its largest instance, with outlines, and a projection of all."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from phantoms.presets import Phantom


def picture_png(phantom: Phantom, title: str) -> bytes:
    """A PNG: per axis the slice through the largest instance, and below it the instances seen along that axis."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8.4), dpi=80, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    figure.subplots_adjust(0.02, 0.06, 0.98, 0.9, wspace=0.05, hspace=0.06)
    figure.suptitle(f"{title}: {len(phantom.classes)} instances, spacing {phantom.spacing_mm} mm")
    largest = np.bincount(phantom.instances.ravel())[1:].argmax() + 1
    middle = np.median(np.argwhere(phantom.instances == largest), axis=0).astype(int)
    colours = colormaps["tab20"]
    for axis in range(3):
        down, right = [a for a in range(3) if a != axis]
        aspect = phantom.spacing_mm[down] / phantom.spacing_mm[right]
        grey, ids = (np.take(a, middle[axis], axis) for a in (phantom.image, phantom.instances))
        top = figure.add_subplot(2, 3, axis + 1, title=f"axis {axis}, slice {middle[axis]}", xticks=[], yticks=[])
        top.imshow(grey, cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
        for number in np.unique(ids[ids > 0]):
            kind = phantom.classes[int(number)]
            top.contour(ids == number, [0.5], colors=[f"C{kind}"], linewidths=1)
        seen = phantom.instances.max(axis)
        below = figure.add_subplot(2, 3, axis + 4, xticks=[], yticks=[])
        below.imshow(np.where(seen[..., None] > 0, colours(seen % 20)[..., :3], 0.0), aspect=aspect)
    names = ", ".join(f"{name} (C{n})" for n, name in enumerate(phantom.names))
    figure.text(0.5, 0.02, f"outlines by class: {names}; below: ids, seen along the axis", ha="center")
    file = io.BytesIO()
    canvas.print_png(file)
    return file.getvalue()
