"""The files of a result -> nodes of the scene, with the display that a reader of uncertainty needs.

Everything is read by the storage nodes themselves, so it works in the application and in slicer-core alike.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import vtk

from MedSegLib.errors import MedSegError
from MedSegLib.outcome import MAPS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from MedSegLib.outcome import Result

#: Below this share of the scale an uncertainty map is transparent.
VISIBLE = 0.02
#: A map whose values stay small (mutual information does) is shown up to the first of these above its maximum.
SCALES = (0.05, 0.1, 0.2, 0.5)
#: For segments of a file that states no colours: distinct, also to colour-blind eyes (Okabe and Ito, 2008).
PALETTE = (
    (0.90, 0.62, 0.00),
    (0.34, 0.71, 0.91),
    (0.00, 0.62, 0.45),
    (0.94, 0.89, 0.26),
    (0.00, 0.45, 0.70),
    (0.84, 0.37, 0.00),
    (0.80, 0.47, 0.65),
)


@dataclass
class Loaded:
    """The nodes of a loaded result.

    Args:
        segmentation: vtkMRMLSegmentationNode.
        maps: "entropy" or "mutual_information" -> vtkMRMLScalarVolumeNode.
        table: vtkMRMLTableNode of the measurements, or None.
        colours: vtkMRMLColorTableNode of the maps, or None.
    """

    segmentation: Any
    maps: dict[str, Any] = field(default_factory=dict)
    table: Any = None
    colours: Any = None

    @property
    def nodes(self) -> list[Any]:
        """All of them."""
        return [node for node in (self.segmentation, *self.maps.values(), self.table, self.colours) if node is not None]


def load_result(scene: Any, result: Result, volume: Any, name: str, *, transform: str = "") -> Loaded:
    """All nodes of a result, or none: when one file cannot be read, what was loaded before it is removed again.

    Args:
        scene: vtkMRMLScene.
        result: its files.
        volume: the node that was segmented; None when it is gone.
        name: what the nodes' names begin with.
        transform: the id of the transform that the results stand under; "" for none.

    Raises:
        MedSegError: a file cannot be read.
    """
    rows = read_rows(result.measurements) if result.measurements else []
    before = {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}
    try:
        loaded = Loaded(load_segmentation(scene, result.segmentation, volume, f"{name} segmentation", rows))
        if result.maps and result.colours:
            loaded.colours = load_colours(scene, result.colours)
        for key, path in result.maps.items():
            loaded.maps[key] = load_map(
                scene, path, loaded.colours, f"{name} {MAPS[key].lower()}", fixed=key == "entropy"
            )
        if rows:
            loaded.table = load_table(scene, rows, f"{name} measurements")
    except BaseException:
        for node in [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]:
            if node.GetID() not in before:
                scene.RemoveNode(node)
        raise
    for node in (loaded.segmentation, *loaded.maps.values()):
        node.SetAndObserveTransformNodeID(transform or None)
    return loaded


def load_segmentation(scene: Any, path: Path, volume: Any, name: str, rows: Sequence[dict[str, str]] = ()) -> Any:
    """A segmentation node, drawn as outlines so that what lies under it can be seen.

    Args:
        scene: vtkMRMLScene.
        path: .seg.nrrd, which brings names and colours; or a NIfTI label map, which gets them here.
        volume: its reference geometry; None for the file's own.
        name: of the node.
        rows: the measurements; their structures name the segments of a NIfTI label map by value.
    """
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    _read(scene, node, path, "vtkMRMLSegmentationStorageNode")
    node.SetName(name)
    if not path.name.endswith(".seg.nrrd"):
        _name_segments(node.GetSegmentation(), rows)
    if volume is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetVisibility(True)
    display.SetVisibility2DFill(False)
    display.SetOpacity2DFill(0.0)
    display.SetVisibility2DOutline(True)
    display.SetOpacity2DOutline(1.0)
    return node


def load_colours(scene: Any, path: Path) -> Any:
    """The colour table of the uncertainty maps."""
    node = scene.AddNewNodeByClass("vtkMRMLColorTableNode", "medseg uncertainty")
    _read(scene, node, path, "vtkMRMLColorTableStorageNode")
    node.SetName("medseg uncertainty")
    return node


def load_map(scene: Any, path: Path, colours: Any, name: str, *, fixed: bool = True) -> Any:
    """An uncertainty map, to lie over the scan: transparent where the model is sure.

    Args:
        scene: vtkMRMLScene.
        path: float values in [0, 1].
        colours: vtkMRMLColorTableNode; None for Slicer's default.
        name: of the node.
        fixed: show 0 to 1, so that one colour means one value in every scan; else up to one of `SCALES`.
    """
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    _read(scene, node, path, "vtkMRMLVolumeArchetypeStorageNode")
    node.SetName(name)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    if colours is not None:
        display.SetAndObserveColorNodeID(colours.GetID())
    highest = node.GetImageData().GetScalarRange()[1]
    top = 1.0 if fixed else next((scale for scale in SCALES if highest < scale), 1.0)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, top)
    display.SetAutoThreshold(False)
    # Outside the band a voxel is transparent: an upper end at the maximum could hide the most uncertain ones.
    display.SetThreshold(VISIBLE * top, max(highest, 1.0) + 1.0)
    display.SetApplyThreshold(True)
    return node


def load_table(scene: Any, rows: list[dict[str, str]], name: str) -> Any:
    """A table node; a column of which every cell is a number, or empty, holds numbers (empty ones are nan)."""
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
    for title in rows[0]:
        cells = [row.get(title) or "" for row in rows]
        numbers = _numbers(cells)
        column = vtk.vtkStringArray() if numbers is None else vtk.vtkDoubleArray()
        column.SetName(title)
        for cell in cells if numbers is None else numbers:
            column.InsertNextValue(cell)
        node.AddColumn(column)
    node.SetLocked(True)
    node.SetUseColumnTitleAsColumnHeader(True)
    return node


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of measurements.csv."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [dict(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error) as error:
        what = "the measurements cannot be read"
        raise MedSegError(what, "start again", file=str(path)) from error


def detach(loaded: Loaded) -> None:
    """Forget the files that the nodes came from, before a temporary folder goes: saving the scene then asks where to."""
    for node in loaded.nodes:
        storage = node.GetStorageNode() if node.IsA("vtkMRMLStorableNode") else None
        if storage is not None:
            node.SetAndObserveStorageNodeID(None)
            node.GetScene().RemoveNode(storage)


def _read(scene: Any, node: Any, path: Path, storage_class: str) -> None:
    storage = scene.AddNewNodeByClass(storage_class)
    storage.SetFileName(str(path))
    if storage.IsA("vtkMRMLVolumeArchetypeStorageNode"):
        storage.SetSingleFile(True)
        storage.SetCenterImage(False)
    node.SetAndObserveStorageNodeID(storage.GetID())
    if not path.is_file() or not storage.ReadData(node):
        what = "this file of the result cannot be read"
        raise MedSegError(what, "start again; report this if it stays so", file=str(path))


def _name_segments(segmentation: Any, rows: Sequence[dict[str, str]]) -> None:
    names = {row["value"]: row["structure"] for row in rows if row.get("value") and row.get("structure")}
    for number in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(number)
        value = segment.GetLabelValue()
        segment.SetName(names.get(str(value), f"label {value}"))
        segment.SetColor(*PALETTE[(value - 1) % len(PALETTE)])


def _numbers(cells: list[str]) -> list[float] | None:
    try:
        numbers = [float(cell) if cell.strip() else math.nan for cell in cells]
    except ValueError:
        return None
    return None if all(map(math.isnan, numbers)) else numbers
