"""Pictures of one case: the outlines of reference and prediction in three slices through their worst disagreement."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import find_objects, uniform_filter1d

from medseg.geometry import Grid
from medseg.metrics.contingency import contingency
from medseg.reports.planes import PLANES, Plane, centre, letters, outline, show, slice_of, window_of
from medseg.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from medseg.reports.evaluation import Picture

#: Sky blue and orange of Okabe and Ito's palette; a solid and a dashed line, so that colour is not needed.
REFERENCE, PREDICTION = "#56b4e9", "#e69f00"
#: No picture is larger than this; a noisy image is drawn with fewer pixels instead.
LIMIT_BYTES = 120_000
_SIDE_INCH = 3.2
_DPI = (150, 110, 75, 50)
_REACH_MM = 5.0


@dataclass(frozen=True)
class View:
    """One slice.

    Args:
        plane: its name, such as 'axial'.
        png: the file's bytes.
        alt: what it shows, in words.
    """

    plane: str
    png: bytes
    alt: str


@dataclass(frozen=True)
class Scene:
    """A case turned to RAS: masks of the structure, all labels of the reference and grey values (I, J, K)."""

    pred: np.ndarray
    ref: np.ndarray
    backdrop: np.ndarray
    grey: bool
    spacing_mm: tuple[float, float, float]


def views(picture: Picture, colour: tuple[int, int, int]) -> tuple[tuple[float, float, float], list[View]]:
    """An axial, a coronal and a sagittal slice through the place of largest disagreement.

    Args:
        picture: the case; without an image its label maps lie on a plain background.
        colour: of the structure, with which the reference's inside is tinted; red, green, blue of 0 to 255.

    Returns:
        RAS mm of the point in which the slices meet, and the slices.

    Raises:
        ValueError: reference, prediction and image differ in shape.
    """
    arrays = [picture.pred, picture.ref, *([] if picture.image is None else [picture.image])]
    if len({a.shape for a in arrays}) > 1:
        msg = f"the maps of one picture lie on one grid, got shapes {', '.join(str(a.shape) for a in arrays)}"
        raise ValueError(msg)
    pred, ref, *image = (volume.reoriented("RAS") for volume in _around(picture, arrays))
    backdrop = image[0].array if image else ((ref.array > 0) | (pred.array > 0)).astype(np.uint8)
    pred_mask, ref_mask = (np.isin(v.array, picture.values) for v in (pred, ref))
    scene = Scene(pred_mask, ref_mask, backdrop, bool(image), ref.spacing_mm)
    place = disagreement(scene.pred, scene.ref, scene.spacing_mm)
    x, y, z = (float(v) for v in ref.grid.to_world(np.array([place], np.float64))[0])
    return (x, y, z), [_view(scene, picture, plane, place[plane.normal], colour) for plane in PLANES]


def _around(picture: Picture, arrays: list[np.ndarray]) -> list[Volume]:
    """The part of the maps that a picture can show: the structure and as much about it as its widest window needs."""
    table = contingency(picture.pred, picture.ref)
    sides = ((table.pred_values, table.pred_boxes), (table.ref_values, table.ref_boxes))
    boxes = np.concatenate([boxes[np.isin(values, picture.values)] for values, boxes in sides])
    grid = Grid(picture.ref.shape, picture.affine)
    if not len(boxes):
        return [Volume(a, grid.affine) for a in arrays]
    start, stop = boxes[..., 0].min(0), boxes[..., 1].max(0)
    extent_mm = (stop - start) * grid.spacing_mm
    margin = np.ceil((_side_mm(extent_mm.max()) - extent_mm) / 2 / grid.spacing_mm).astype(int) + 1
    start, stop = np.maximum(start - margin, 0), np.minimum(stop + margin, grid.shape)
    cut = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    affine = grid.crop(tuple(start), tuple(stop)).affine
    return [Volume(a[cut], affine) for a in arrays]


def _side_mm(extent_mm: float) -> float:
    """Side of the square that shows so much, with a margin."""
    return max(24.0, extent_mm + max(10.0, 0.5 * extent_mm))


def disagreement(pred: np.ndarray, ref: np.ndarray, spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    """The voxel of two masks (I, J, K) around which, within 5 mm, most voxels differ; the centre where none does."""
    differ = pred != ref
    boxes = find_objects(differ.view(np.uint8))
    if not boxes:
        return centre(ref)
    box = boxes[0]
    inside = differ[box]
    density = inside.astype(np.float32)
    for axis, spacing in enumerate(spacing_mm):
        density = uniform_filter1d(density, 2 * round(_REACH_MM / spacing) + 1, axis, mode="constant")
    density[~inside] = -1
    i, j, k = (int(n) + b.start for n, b in zip(np.unravel_index(density.argmax(), density.shape), box, strict=True))
    return i, j, k


def _view(scene: Scene, picture: Picture, plane: Plane, index: int, colour: tuple[int, int, int]) -> View:
    ref, pred, backdrop = (slice_of(a, plane, index) for a in (scene.ref, scene.pred, scene.backdrop))
    window = _window(ref | pred, scene.spacing_mm[plane.across], scene.spacing_mm[plane.up])
    drawings = (_draw(ref, pred, backdrop, window, plane, scene, colour, dpi) for dpi in _DPI)
    png = next(drawing for drawing in drawings if len(drawing) <= LIMIT_BYTES)
    shown = [n for n, mask in (("the reference", ref), ("the prediction", pred)) if mask.any()]
    drawn = "outlines of " + " and ".join(shown) if shown else "neither reference nor prediction here"
    return View(plane.name, png, f"{picture.case}, {picture.structure}, {plane.name} slice: {drawn}")


def _window(mask: np.ndarray, across_mm: float, up_mm: float) -> tuple[float, float, float]:
    """(column, row, side in mm) of the square shown: what is drawn and a margin, the whole slice where nothing is."""
    rows, columns = (np.nonzero(mask.any(axis=a))[0] for a in (1, 0))
    if not len(rows):
        rows, columns = (np.arange(n) for n in mask.shape)
    across, up = (columns[-1] - columns[0] + 1) * across_mm, (rows[-1] - rows[0] + 1) * up_mm
    return (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2, _side_mm(max(across, up))


def _draw(ref, pred, backdrop, window, plane: Plane, scene: Scene, colour: tuple[int, int, int], dpi: int) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_SIDE_INCH, _SIDE_INCH), dpi=dpi, facecolor="black")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    column, row, side = window
    half = side / 2 / scene.spacing_mm[plane.across], side / 2 / scene.spacing_mm[plane.up]
    if scene.grey:
        seen = backdrop[_span(row, half[1], len(backdrop)), _span(column, half[0], backdrop.shape[1])]
        low, high = window_of(seen.astype(np.float32), None)
    else:
        low, high = -0.3, 3.0  # background nearly black, other structures dark grey
    show(axes, backdrop, plane, scene.spacing_mm, cmap="gray", vmin=low, vmax=high)
    tint = np.zeros((*ref.shape, 4), np.uint8)
    tint[ref] = (*colour, 45 if scene.grey else 110)
    show(axes, tint, plane, scene.spacing_mm)
    outline(axes, ref, colors=[REFERENCE], linewidths=2.2)
    outline(axes, pred, colors=[PREDICTION], linewidths=2.2, linestyles=[(0, (3, 1.6))])
    axes.set_xlim(column - half[0], column + half[0])
    axes.set_ylim(row - half[1], row + half[1])
    letters(axes, plane, size=11)
    _scale_bar(axes, side)
    out = io.BytesIO()
    canvas.print_png(out, metadata={"Software": None})
    return out.getvalue()


def _span(middle: float, half: float, n: int) -> slice:
    return slice(max(0, math.floor(middle - half)), min(n, math.ceil(middle + half) + 1))


def _scale_bar(axes: Axes, side_mm: float) -> None:
    from matplotlib.patheffects import withStroke

    length = max(mm for mm in (1, 2, 5, 10, 20, 50, 100, 200) if mm <= max(1, side_mm / 3))
    x = 0.97 - length / side_mm
    for colour, width in (("black", 4.0), ("white", 2.0)):
        axes.plot([x, 0.97], [0.035, 0.035], color=colour, linewidth=width, transform=axes.transAxes)
    dark = [withStroke(linewidth=2, foreground="black")]
    style = {"color": "white", "fontsize": 8, "ha": "center", "path_effects": dark}
    axes.text((x + 0.97) / 2, 0.05, f"{length} mm", transform=axes.transAxes, **style)
