"""A case as a 3D Slicer scene: one file (scene.mrml) that opens image, segmentation and uncertainty ready to judge.

The scene names its files relative to itself, so the folder can be moved. What it fixes, and why:
outlines, because Slicer paints filled segments over the uncertainty; a threshold that hides certain voxels and ends
above the maximum, because Slicer makes what lies outside of it transparent; a colour table of its own; linked slices
that meet at the most uncertain place.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from medseg.reports.case_view import MAPS, CaseView, map_file
from medseg.reports.colour_table import SIZE, colour_table_text
from medseg.reports.planes import window_of
from medseg.reports.uncertain_place import place_mm
from medseg.writers.atomic import write_text
from medseg.writers.nrrd import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from medseg.geometry import Grid

SCENE = "scene.mrml"
SEGMENTATION = "segmentation.seg.nrrd"
COLOURS = "uncertainty.ctbl"
#: Share of a map's window below which a voxel counts as certain and is transparent.
CERTAIN = 0.02
_OPACITY = 0.7
#: A map whose values stay small (mutual information does) is shown up to the first of these above its maximum.
_WINDOWS = (0.05, 0.1, 0.2, 0.5)
#: Slicer's standard nodes have low numbers.
_FIRST = 901
_FOUR_UP = 3
_VIEW_ANGLE = 30
#: Slice view -> what a step across, up and out of the picture is in RAS, as Slicer defines its orientations.
_SLICES = {
    "Red": ("Axial", ((-1, 0, 0), (0, 1, 0), (0, 0, 1))),
    "Yellow": ("Sagittal", ((0, -1, 0), (0, 0, 1), (-1, 0, 0))),
    "Green": ("Coronal", ((-1, 0, 0), (0, 0, 1), (0, 1, 0))),
}
_DISPLAY = {"visibility": "true", "visibility2D": "true"}


def write_scene(folder: Path, view: CaseView, *, image_file: str = "image.nii.gz") -> list[str]:
    """Write scene.mrml, and uncertainty.ctbl where there are maps, into the folder that holds the case's files.

    Args:
        folder: holds `image_file`, segmentation.seg.nrrd and `map_file(key)` of each map.
        view: the case.
        image_file: relative to `folder`, with `/`; a 3D image, one value a voxel.

    Returns:
        The names of the files written.

    Raises:
        OutputError: MS-O101 to MS-O106, see `atomic_write`.
    """
    written = {SCENE: scene_xml(view, image_file=image_file)}
    if view.maps:
        written[COLOURS] = colour_table_text()
    for name, text in written.items():
        write_text(Path(folder) / name, text)
    return list(written)


def scene_xml(view: CaseView, *, image_file: str = "image.nii.gz") -> str:
    """The text of scene.mrml; see `write_scene`."""
    shown = next((key for key in MAPS if key in view.maps), None)
    centre = place_mm(view.segmentation, None if shown is None else view.maps[shown])
    nodes = [*_image(view, image_file)]
    if shown is not None:
        nodes += _colours()
    for number, key in enumerate(key for key in MAPS if key in view.maps):
        nodes += _map(key, view.maps[key], _FIRST + 1 + number)
    nodes += _segmentation(view)
    nodes += _slices(view.segmentation.grid, centre, has_map=shown is not None)
    nodes.append(_camera(view.segmentation.grid))
    nodes += _notes(view)
    nodes.append(_node("Layout", "vtkMRMLLayoutNodevtkMRMLLayoutNode", "Layout", {
        "singletonTag": "vtkMRMLLayoutNode", "currentViewArrangement": _FOUR_UP}))  # fmt: skip
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', '<MRML version="medseg">', *nodes, "</MRML>"]) + "\n"


def _image(view: CaseView, file: str) -> Iterator[str]:
    grey = view.image.array if view.image.array.ndim == 3 else view.image.array[0]
    low, high = window_of(grey, view.image.source.modality)
    # Slicer writes the names of the volumes into the corner of every slice view: there the warning is seen.
    name = f"{view.name} ({view.warning})" if view.warning else view.name
    yield from _volume(_FIRST, name, file, {
        "window": _number(high - low), "level": _number((high + low) / 2), "autoWindowLevel": 0,
        "colorNodeID": "vtkMRMLColorTableNodeGrey", "applyThreshold": 0, "interpolate": 1})  # fmt: skip


def _map(key: str, uncertainty: np.ndarray, number: int) -> Iterator[str]:
    highest = float(uncertainty.max())
    top = 1.0 if key == "entropy" else next((w for w in _WINDOWS if highest < w), 1.0)
    yield from _volume(
        number,
        MAPS[key],
        map_file(key),
        {
            "window": _number(top), "level": _number(top / 2), "autoWindowLevel": 0,
            "colorNodeID": f"vtkMRMLColorTableNode{_FIRST}", "interpolate": 1,
            "applyThreshold": 1, "autoThreshold": 0, "lowerThreshold": _number(CERTAIN * top),
            "upperThreshold": _number(max(highest, 1.0) + 1),
        },
        legend=True,
    )  # fmt: skip


def _volume(number: int, name: str, file: str, display: Mapping[str, object], *, legend: bool = False) -> Iterator[str]:
    shown = f"vtkMRMLScalarVolumeDisplayNode{number}"
    stored = f"vtkMRMLVolumeArchetypeStorageNode{number}"
    key = f"vtkMRMLColorLegendDisplayNode{number}"
    yield _node("VolumeDisplay", shown, f"{name} display", {**_DISPLAY, **display})
    yield _node("VolumeArchetypeStorage", stored, f"{name} storage", {
        "fileName": _file(file), "UseOrientationFromFile": 1, "centerImage": 0})  # fmt: skip
    if legend:
        yield _node("ColorLegendDisplay", key, f"{name} colour legend", {
            **_DISPLAY, "references": f"primaryDisplay:{shown};", "titleText": name, "labelFormat": "%.2f",
            "maxNumberOfColors": SIZE, "numberOfLabels": 5, "useColorNamesForLabels": "false",
            "orientation": "Vertical", "position": "0.95 0.5", "size": "0.12 0.5"})  # fmt: skip
    displays = f"{shown} {key}" if legend else shown
    yield _node("Volume", f"vtkMRMLScalarVolumeNode{number}", name, {
        "references": f"display:{displays};storage:{stored};"}, hidden=False)  # fmt: skip


def _colours() -> Iterator[str]:
    stored = f"vtkMRMLColorTableStorageNode{_FIRST}"
    yield _node("ColorTableStorage", stored, "uncertainty colours storage", {"fileName": _file(COLOURS)})
    yield _node("ColorTable", f"vtkMRMLColorTableNode{_FIRST}", "Uncertainty", {
        "references": f"storage:{stored};", "type": 14, "numcolors": SIZE}, hidden=False)  # fmt: skip


def _segmentation(view: CaseView) -> Iterator[str]:
    shown, stored = (f"vtkMRMLSegmentation{what}Node{_FIRST}" for what in ("Display", "Storage"))
    yield _node("SegmentationDisplay", shown, "segmentation display", {
        **_DISPLAY, "visibility3D": "true", "Visibility2DFill": "false", "Opacity2DFill": 0,
        "Visibility2DOutline": "true", "Opacity2DOutline": 1, "sliceIntersectionThickness": 2})  # fmt: skip
    yield _node("SegmentationStorage", stored, "segmentation storage", {"fileName": _file(SEGMENTATION)})
    name = f"{view.name} segmentation" + (f" ({view.warning})" if view.warning else "")
    yield _node("Segmentation", f"vtkMRMLSegmentationNode{_FIRST}", name, {
        "references": f"display:{shown};storage:{stored};referenceImageGeometryRef:vtkMRMLScalarVolumeNode{_FIRST};",
        "SourceRepresentationName": "Binary labelmap"}, hidden=False)  # fmt: skip


def _slices(grid: Grid, centre: tuple[float, float, float], *, has_map: bool) -> Iterator[str]:
    corners = grid.corners_mm
    extent = corners.max(axis=0) - corners.min(axis=0) + max(grid.spacing_mm)
    layers = f"backgroundVolume:vtkMRMLScalarVolumeNode{_FIRST};"
    if has_map:
        layers += f"foregroundVolume:vtkMRMLScalarVolumeNode{_FIRST + 1};"
    for name, (orientation, axes) in _SLICES.items():
        matrix = np.column_stack([*axes, centre])
        across, up = (float(np.abs(axis) @ extent) for axis in np.array(axes[:2], float))
        side = _number(max(across, up) * 1.05)
        yield _node("Slice", f"vtkMRMLSliceNode{name}", name, {
            "singletonTag": name, "layoutName": name, "orientation": orientation,
            "fieldOfView": f"{side} {side} {_number(min(grid.spacing_mm))}", "dimensions": "512 512 1",
            "sliceToRAS": " ".join(_number(x) for x in (*matrix.reshape(-1), 0, 0, 0, 1)),
            "visibility": "true", "sliceVisibility": "false", "jumpMode": 1}, hidden=False)  # fmt: skip
        yield _node("SliceComposite", f"vtkMRMLSliceCompositeNode{name}", name, {
            "singletonTag": name, "layoutName": name, "references": layers, "compositing": 0,
            "foregroundOpacity": _OPACITY if has_map else 0, "labelOpacity": 1, "linkedControl": 1})  # fmt: skip


def _camera(grid: Grid) -> str:
    """The 3D view from the front, with the whole grid in it."""
    corners = grid.corners_mm
    middle = corners.mean(axis=0)
    radius = np.linalg.norm(corners - middle, axis=1).max()
    eye = middle + np.array([0, radius / np.sin(np.radians(_VIEW_ANGLE / 2)), 0])
    return _node("Camera", "vtkMRMLCameraNode1", "Camera", {
        "singletonTag": 1, "layoutName": 1, "focalPoint": " ".join(map(_number, middle)),
        "position": " ".join(map(_number, eye)), "viewUp": "0 0 1",
        "viewAngle": _VIEW_ANGLE, "parallelProjection": "false"}, hidden=False)  # fmt: skip


def _notes(view: CaseView) -> Iterator[str]:
    lines = [*([view.warning] if view.warning else []), *view.notes]
    if lines:
        text = "\n".join(one_line(line) for line in lines)
        yield _node("Text", f"vtkMRMLTextNode{_FIRST}", "What to look at", {"text": text}, hidden=False)


def _node(tag: str, identity: str, name: str, attributes: Mapping[str, object], *, hidden: bool = True) -> str:
    whole = {
        "id": identity, "name": one_line(name), "hideFromEditors": "true" if hidden else "false",
        "selectable": "true", "selected": "false", **attributes}  # fmt: skip
    words = " ".join(f"{key}={quoteattr(str(value))}" for key, value in whole.items())
    return f" <{tag} {words}></{tag}>"


def _file(name: str) -> str:
    """A file name as MRML stores it, with percent signs for what a URL cannot hold."""
    return quote(name, safe="/")


def _number(value: float) -> str:
    return f"{float(value) + 0.0:.9g}"
