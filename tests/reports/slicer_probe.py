"""Run by the Python of .venv-slicer: loads scenes with 3D Slicer's own libraries, says what it found, draws slices.

Usage: python slicer_probe.py JOBS OUT     JOBS: JSON list of scenes (.mrml or .mrb) and sequences (.seq.nrrd)

OUT/found.json gets one object a job; OUT/N-VIEW-WHAT.png the pictures of job N.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

import slicer
import vtk

SIDE = 400


def new_scene():
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    segmentations = slicer.vtkSlicerSegmentationsModuleLogic()  # knows how to make surfaces
    segmentations.SetMRMLScene(scene)
    logic.SetModuleLogic("Segmentations", segmentations)
    scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    return scene, logic


def load(path: Path):
    scene, logic = new_scene()
    views = {name: View(scene, logic, name) for name in ("Red", "Yellow", "Green")}
    solid = View3D(scene, logic)
    if path.suffix == ".mrb":
        with tempfile.TemporaryDirectory() as cache:  # where Slicer unpacks the bundle
            remote = slicer.vtkMRMLRemoteIOLogic()
            remote.SetMRMLScene(scene)
            remote.GetCacheManager().SetRemoteCacheDirectory(cache)
            remote.AddDataIOToScene()
            fine = scene.ReadFromMRB(str(path), False)
    else:
        scene.SetURL(str(path))
        fine = scene.Import(None)
    return scene, views, solid, bool(fine)


def nodes(scene, kind):
    return [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]


def rows(matrix, size=4):
    return [[matrix.GetElement(i, j) for j in range(size)] for i in range(size)]


def describe_volume(node):
    display, matrix = node.GetDisplayNode(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return {
        "affine": rows(matrix),
        "shape": list(node.GetImageData().GetDimensions()) if node.GetImageData() else None,
        "range": list(node.GetImageData().GetScalarRange()) if node.GetImageData() else None,
        "class": node.GetClassName(),
        "window": display.GetWindow(),
        "level": display.GetLevel(),
        "auto": display.GetAutoWindowLevel(),
        "apply": display.GetApplyThreshold(),
        "lower": display.GetLowerThreshold(),
        "upper": display.GetUpperThreshold(),
        "colours": display.GetColorNode().GetName() if display.GetColorNode() else None,
        "displays": [node.GetNthDisplayNode(n).GetClassName() for n in range(node.GetNumberOfDisplayNodes())],
    }


def describe_segmentation(node):
    segmentation, found = node.GetSegmentation(), []
    for n in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(n)
        image = segment.GetRepresentation("Binary labelmap")
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        scalars = image.GetPointData().GetScalars()
        inside = [i for i in range(scalars.GetNumberOfTuples()) if scalars.GetTuple1(i) == segment.GetLabelValue()]
        tag, extent = vtk.reference(""), image.GetExtent()
        segment.GetTag("TerminologyEntry", tag)
        own = vtk.reference("")
        found.append(
            {
                "id": segmentation.GetNthSegmentID(n),
                "name": segment.GetName(),
                "colour": list(segment.GetColor()),
                "value": segment.GetLabelValue(),
                "terminology": str(tag),
                "volume_ml": str(own) if segment.GetTag("medseg.volume_ml", own) else None,
                "affine": rows(matrix),
                "extent": list(extent),
                "surface": segment.GetRepresentation("Closed surface") is not None,
                "inside": inside,
            }
        )
    display = node.GetDisplayNode()
    return {
        "segments": found,
        "fill": display.GetVisibility2DFill(),
        "outline": display.GetVisibility2DOutline(),
        "reference": node.GetNodeReferenceID("referenceImageGeometryRef"),
    }


def describe(scene):
    return {
        "volumes": {node.GetName(): describe_volume(node) for node in nodes(scene, "vtkMRMLScalarVolumeNode")},
        "segmentations": {n.GetName(): describe_segmentation(n) for n in nodes(scene, "vtkMRMLSegmentationNode")},
        "composites": {
            node.GetLayoutName(): {
                "background": (scene.GetNodeByID(node.GetBackgroundVolumeID() or "") or node).GetName(),
                "foreground": (scene.GetNodeByID(node.GetForegroundVolumeID() or "") or node).GetName(),
                "opacity": node.GetForegroundOpacity(),
                "linked": node.GetLinkedControl(),
            }
            for node in nodes(scene, "vtkMRMLSliceCompositeNode")
        },
        "slices": {
            node.GetLayoutName(): {"matrix": rows(node.GetSliceToRAS()), "orientation": node.GetOrientation(),
                                   "fov": list(node.GetFieldOfView())}
            for node in nodes(scene, "vtkMRMLSliceNode")
        },
        "colours": {
            node.GetName(): [node.GetNumberOfColors(), node.GetType(), [list(colour(node, n)) for n in (0, 128, 255)]]
            for node in nodes(scene, "vtkMRMLColorTableNode")
            if node.GetStorageNode()
        },
        "legends": {
            node.GetTitleText(): node.GetPrimaryDisplayNode().GetID()
            for node in nodes(scene, "vtkMRMLColorLegendDisplayNode")
        },
        "notes": {node.GetName(): node.GetText() for node in nodes(scene, "vtkMRMLTextNode")},
        "layout": [node.GetViewArrangement() for node in nodes(scene, "vtkMRMLLayoutNode")],
    }  # fmt: skip


def colour(table, index):
    rgba = [0.0] * 4
    table.GetColor(index, rgba)
    return rgba


class View:
    """One slice view, made before the scene is loaded, as the application does."""

    def __init__(self, scene, logic, name):
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(SIDE, SIDE)
        renderer = vtk.vtkRenderer()
        self.window.AddRenderer(renderer)
        renderer.GetActiveCamera().ParallelProjectionOn()
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(logic)
        for manager in ("vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLColorLegendDisplayableManager"):
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.Initialize(factory, renderer)
        self.slices = slicer.vtkMRMLSliceLogic()
        self.slices.SetMRMLApplicationLogic(logic)
        logic.GetSliceLogics().AddItem(self.slices)
        self.slices.SetMRMLScene(scene)
        self.node = self.slices.AddSliceNode(name)
        self.group.SetMRMLDisplayableNode(self.node)
        self.mapper = vtk.vtkImageMapper()
        self.mapper.SetColorWindow(255)
        self.mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(self.mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        renderer.AddViewProp(actor)

    def draw(self, scene, path):
        """Pictures: as the scene shows it, without outlines and legend, and without the overlay too."""
        self.slices.ResizeSliceNode(SIDE, SIDE)
        segmentation = nodes(scene, "vtkMRMLSegmentationNode")[0].GetDisplayNode()
        legends = [(node, node.GetVisibility()) for node in nodes(scene, "vtkMRMLColorLegendDisplayNode")]
        composite = self.slices.GetSliceCompositeNode()
        opacity = composite.GetForegroundOpacity()
        for what, shown, strength in (("scene", 1, opacity), ("overlay", 0, opacity), ("image", 0, 0.0)):
            segmentation.SetVisibility(shown)
            for legend, visible in legends:
                legend.SetVisibility(shown and visible)
            composite.SetForegroundOpacity(strength)
            self.slices.UpdatePipeline()
            self.mapper.SetInputConnection(self.slices.GetImageDataConnection())
            self.window.Render()
            self.window.Render()
            save(self.window, f"{path}-{what}.png")
        segmentation.SetVisibility(1)
        for legend, visible in legends:
            legend.SetVisibility(visible)
        composite.SetForegroundOpacity(opacity)
        return {
            "window": self.window.GetClassName(),
            "xy_to_ras": rows(self.node.GetXYToRAS()),
            "size": list(self.window.GetSize()),
            "orientation": self.node.GetOrientation(),
        }


class View3D:
    """The 3D view, likewise."""

    def __init__(self, scene, logic):
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(SIDE, SIDE)
        renderer = vtk.vtkRenderer()
        self.window.AddRenderer(renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(logic)
        for manager in ("vtkMRMLCameraDisplayableManager", "vtkMRMLSegmentationsDisplayableManager3D"):
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.Initialize(factory, renderer)
        node = slicer.vtkMRMLViewNode()
        node.SetName("View1")
        node.SetSingletonTag("1")
        node.SetLayoutName("1")
        self.group.SetMRMLDisplayableNode(scene.AddNode(node))

    def draw(self, path):
        self.window.Render()
        save(self.window, path)


def save(window, path):
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    writer = vtk.vtkPNGWriter()
    writer.SetInputConnection(grab.GetOutputPort())
    writer.SetFileName(str(path))
    writer.Write()


def sequence(path: Path):
    scene, _ = new_scene()
    node = scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    storage = slicer.vtkMRMLVolumeSequenceStorageNode()
    storage.SetFileName(str(path))
    fine = storage.ReadData(node)
    items = []
    for n in range(node.GetNumberOfDataNodes()):
        volume, matrix = node.GetNthDataNode(n), vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        scalars = volume.GetImageData().GetPointData().GetScalars()
        items.append({
            "class": volume.GetClassName(), "affine": rows(matrix), "index": node.GetNthIndexValue(n),
            "shape": list(volume.GetImageData().GetDimensions()),
            "values": [scalars.GetTuple1(i) for i in range(scalars.GetNumberOfTuples())]})  # fmt: skip
    return {"fine": bool(fine), "index_name": node.GetIndexName(), "items": items}


def main(jobs: str, out: str) -> None:
    found = []
    for number, name in enumerate(json.loads(jobs)):
        path = Path(name)
        if path.name.endswith(".seq.nrrd"):
            found.append(sequence(path))
            continue
        scene, views, solid, fine = load(path)
        result = {"fine": fine, **describe(scene)}
        result["views"] = {name: view.draw(scene, Path(out) / f"{number}-{name}") for name, view in views.items()}
        solid.draw(Path(out) / f"{number}-3D-scene.png")
        found.append(result)
    (Path(out) / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
