"""The Slicer module's logic in 3D Slicer's own code. Runs in .venv-slicer, beside pytest:

python in_slicer.py SCENARIO '{"key": "value"}'        prints what the scenario found, as JSON
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "slicer" / "MedSeg"))

import numpy as np
import slicer
import vtk
from MedSegLib.command import Options
from MedSegLib.errors import MedSegError
from MedSegLib.logic import MedSegLogic
from MedSegLib.nifti_header import read_nifti_header
from MedSegLib.source import prepare, safe_name, same_place
from MedSegLib.views import most_uncertain, peak
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy


def new_scene():
    """A scene with three slice views, as the application has."""
    scene = slicer.vtkMRMLScene()
    for kind in ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode"):
        for view in ("Red", "Yellow", "Green"):
            node = scene.CreateNodeByClass(kind)
            node.UnRegister(None)
            node.SetSingletonTag(view)
            node.SetLayoutName(view)
            scene.AddNode(node)
    return scene


def read(scene, path, name="scan"):
    """A volume node read from a file, as the application does."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    node.SetAndObserveStorageNodeID(storage.GetID())
    assert storage.ReadData(node)
    return node


def made(scene, array, affine, name="made"):
    """A volume node that came from no file; `array` is (I, J, K)."""
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape)
    image.GetPointData().SetScalars(numpy_to_vtk(np.asfortranarray(array).ravel(order="F"), deep=True))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetAndObserveImageData(image)
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(x) for x in np.asarray(affine).ravel()])
    node.SetIJKToRASMatrix(matrix)
    return node


def affine_of(node):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return [[matrix.GetElement(r, c) for c in range(4)] for r in range(4)]


def array_of(image):
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1]).transpose(2, 1, 0)


def ran(job, until=lambda _: False, seconds=120):
    start = time.monotonic()
    texts = []
    while job.poll() and not until(job):
        assert time.monotonic() - start < seconds
        texts.append([job.progress.fraction, job.progress.text])
        time.sleep(0.01)
    return texts


def describe(job, scene):
    """Everything that a loaded result has to be."""
    if job.error is not None:
        return {"error": str(job.error), "nodes": len(results(scene))}
    segmentation = job.loaded.segmentation
    shown, segments = segmentation.GetDisplayNode(), []
    for n in range(segmentation.GetSegmentation().GetNumberOfSegments()):
        segment = segmentation.GetSegmentation().GetNthSegment(n)
        identity = segmentation.GetSegmentation().GetNthSegmentID(n)
        labelmap = slicer.vtkOrientedImageData()
        segmentation.GetBinaryLabelmapRepresentation(identity, labelmap)
        matrix = vtk.vtkMatrix4x4()
        labelmap.GetImageToWorldMatrix(matrix)
        found = np.argwhere(array_of(labelmap) > 0) + labelmap.GetExtent()[::2]
        world = [matrix.MultiplyPoint((*map(float, p), 1.0))[:3] for p in found]
        segments.append({
            "name": segment.GetName(), "colour": segment.GetColor(), "value": segment.GetLabelValue(),
            "voxels": len(world), "centre": np.mean(world, axis=0).tolist() if world else None,
            "affine": [[matrix.GetElement(r, c) for c in range(4)] for r in range(4)],
            "extent": labelmap.GetExtent(),
        })  # fmt: skip
    found = {
        "segments": segments, "notes": job.notes, "peak": job.peak, "kind": job.source.kind,
        "fill": [shown.GetVisibility2DFill(), shown.GetOpacity2DFill()], "outline": shown.GetVisibility2DOutline(),
        "reference": segmentation.GetNodeReferenceID(segmentation.GetReferenceImageGeometryReferenceRole()),
        "transform": segmentation.GetTransformNodeID(), "maps": {}, "nodes": len(results(scene)),
        "stored": [n.GetStorageNode() is not None for n in job.loaded.nodes if n.IsA("vtkMRMLStorableNode")],
    }  # fmt: skip
    for key, node in job.loaded.maps.items():
        display = node.GetDisplayNode()
        colours = display.GetColorNode()
        found["maps"][key] = {
            "affine": affine_of(node), "shape": node.GetImageData().GetDimensions(),
            "range": node.GetImageData().GetScalarRange(), "window": [display.GetWindowLevelMin(), display.GetWindowLevelMax()],
            "threshold": [display.GetLowerThreshold(), display.GetUpperThreshold()], "applied": display.GetApplyThreshold(),
            "colours": colours.GetName(), "rgb": [round(255 * c) for c in colour(colours, 100)],
            "transform": node.GetTransformNodeID(),
        }  # fmt: skip
    table = job.loaded.table
    if table is not None:
        rows = range(table.GetNumberOfRows())
        found["table"] = {
            table.GetColumnName(c): [table.GetCellText(r, c) for r in rows] for c in range(table.GetNumberOfColumns())
        }
        found["numbers"] = [
            table.GetColumnName(c)
            for c in range(table.GetNumberOfColumns())
            if table.GetTable().GetColumn(c).IsA("vtkDoubleArray")
        ]
    return found


def colour(node, index):
    rgba = [0.0] * 4
    node.GetColor(index, rgba)
    return rgba[:3]


def results(scene):
    kinds = ("vtkMRMLSegmentationNode", "vtkMRMLTableNode", "vtkMRMLColorTableNode", "vtkMRMLSegmentationStorageNode")
    return [k for k in kinds for _ in range(scene.GetNumberOfNodesByClass(k))]


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def views(scene):
    found = []
    for n in range(3):
        layers = scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
        place = scene.GetNthNodeByClass(n, "vtkMRMLSliceNode").GetSliceToRAS()
        found.append({
            "background": layers.GetBackgroundVolumeID(), "foreground": layers.GetForegroundVolumeID(),
            "opacity": layers.GetForegroundOpacity(), "at": [place.GetElement(r, 3) for r in range(3)],
        })  # fmt: skip
    return found


def segment(medseg, bundle, scan=None, uncertainty="", keep="", gap=False, **options):
    """The whole way, for a scan from a file, or one that exists in memory alone."""
    scene = new_scene()
    volume = read(scene, scan, "größe 1") if scan else made(scene, *phantom())
    logic = MedSegLogic(scene, medseg, grace_s=0.5)
    job = logic.segment(volume, Options(bundle, uncertainty=uncertainty, **options), Path(keep) if keep else None)
    if gap:
        scene.RemoveNode(volume)
    texts = ran(job)
    found = describe(job, scene)
    job.show()
    left = [path.name for path in Path(os.environ["TMPDIR"]).glob("medseg-*")]
    more = {"affine": affine_of(volume), "volume": volume.GetID(), "views": views(scene), "texts": texts, "left": left}
    return {**found, **more, "command": job.command, "over": job.poll(), "out": names(keep) if keep else []}


def phantom(seed=7, hand=-1):
    """Oblique, left-handed, three spacings, no axis twice: a grid that nothing takes for another."""
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 90, (11, 13, 9)).astype(np.int16)
    array[2:5, 3:7, 1:4] = 150
    array[7:9, 8:11, 5:8] = 240
    array[8, 9, 6] = 250
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * (0.8, 1.3, 2.1)
    if np.linalg.det(affine) * hand < 0:
        affine[:3, 0] *= -1
    affine[:3, 3] = (-31.4, 59.2, 653.5)
    return array, affine


def cancelled(medseg, bundle, keep=""):
    scene = new_scene()
    job = MedSegLogic(scene, medseg, grace_s=0.5).segment(
        made(scene, *phantom()), Options(bundle), Path(keep) if keep else None
    )
    ran(job, until=lambda job: job.progress.fraction is not None)
    job.cancel()
    ran(job)
    left = [path.name for path in Path(os.environ["TMPDIR"]).glob("medseg-*")]
    return {
        "code": job.process.returncode, "loaded": job.loaded is not None, "error": str(job.error), "left": left,
        "out": names(keep) if keep else [], "nodes": len(results(scene)), "pids": job.progress.text,
    }  # fmt: skip


def unstarted(medseg, gone, keep):
    """What is refused before anything runs, and what that leaves behind."""
    scene, found = new_scene(), {}
    volume = made(scene, *phantom())
    for name, setting, options, place in (
        ("gone", medseg, Options("sound"), gone),
        ("bundle", medseg, Options(""), keep),
        ("uncertainty", medseg, Options("sound", uncertainty="mc:1"), keep),
        ("medseg", gone, Options("sound"), keep),
    ):
        try:
            MedSegLogic(scene, setting).segment(volume, options, Path(place))
            found[name] = "started"
        except MedSegError as error:
            found[name] = str(error)
    left = [path.name for path in Path(os.environ["TMPDIR"]).glob("medseg-*")]
    return {**found, "left": left, "out": names(keep)}


def killed(medseg):
    scene = new_scene()
    job = MedSegLogic(scene, medseg).segment(made(scene, *phantom()), Options("stubborn"))
    ran(job, until=lambda job: job.progress.fraction is not None)
    job.kill()
    left = [path.name for path in Path(os.environ["TMPDIR"]).glob("medseg-*")]
    return {"over": not job.poll(), "left": left, "pids": job.progress.text}


def transformed(medseg, warp=False, dicom=()):
    """A volume under a transform: its results stand under it too."""
    scene = new_scene()
    volume = series(scene, dicom) if dicom else made(scene, *phantom())
    if warp:
        transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
        grid = vtk.vtkThinPlateSplineTransform()
        points = vtk.vtkPoints()
        for p in ((0, 0, 0), (100, 0, 0), (0, 100, 0), (0, 0, 100), (50, 50, 50)):
            points.InsertNextPoint(p)
        moved = vtk.vtkPoints()
        moved.DeepCopy(points)
        moved.SetPoint(4, 55, 50, 50)
        grid.SetSourceLandmarks(points)
        grid.SetTargetLandmarks(moved)
        transform.SetAndObserveTransformToParent(grid)
    else:
        transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 3, 100.0)
        transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    job = MedSegLogic(scene, medseg).segment(volume, Options("sound", uncertainty="tta"))
    ran(job)
    return {**describe(job, scene), "expected": transform.GetID(), "affine": affine_of(volume)}


def series(scene, files):
    """A DICOM series read as the application's DICOM module does: first file and list of all."""
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(files[0])
    storage.ResetFileNameList()
    for file in files:
        storage.AddFileName(file)
    storage.SetSingleFile(False)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Abd 1.5")
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    node.SetAndObserveStorageNodeID(storage.GetID())
    assert storage.ReadData(node)
    return node


def dicom(medseg, files, bundle="sound", uncertainty="tta"):
    scene = new_scene()
    volume = series(scene, files)
    job = MedSegLogic(scene, medseg).segment(volume, Options(bundle, uncertainty=uncertainty, outside_domain=True))
    handed = sorted(path.name for path in job.source.path.iterdir())
    ran(job)
    return {
        **describe(job, scene),
        "handed": handed,
        "name": safe_name(volume),
        "shape": volume.GetImageData().GetDimensions(),
    }


def sources(scan, folder):
    """Which input stands for a volume: (what was done to the node) -> kind, and whether a copy lies where it should."""
    scene, found = new_scene(), {}

    def kind(name, volume):
        place = Path(folder) / name
        place.mkdir()
        source = prepare(volume, place)
        again = read(scene, source.path)
        same = same_place(volume, read_nifti_header(source.path)) and bool(
            np.array_equal(array_of(volume.GetImageData()), array_of(again.GetImageData()))
        )
        found[name] = [
            source.kind,
            source.path.name,
            same and np.allclose(affine_of(volume), affine_of(again), atol=1e-4),
        ]

    kind("untouched", read(scene, scan))
    painted = read(scene, scan)
    array_of(painted.GetImageData())[3, 3, 3] = 99
    painted.GetImageData().Modified()
    painted.StorableModified()
    kind("painted", painted)
    moved = read(scene, scan)
    moved.SetOrigin(1.0, 2.0, 3.5)
    kind("moved", moved)
    kind("memory", made(scene, *phantom(hand=1), name="Ä/ö: scan 1_0000"))
    kind("left", read(scene, prepare(made(scene, *phantom(), name="left"), Path(folder)).path))
    gone = read(scene, scan)
    gone.GetStorageNode().SetFileName(str(Path(folder) / "gone.nii.gz"))
    kind("gone", gone)
    return found


def refused(folder):
    scene, found = new_scene(), {}
    array, affine = phantom()
    sheared = np.array(affine)
    sheared[:3, 2] += 0.4 * sheared[:3, 1]
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    labels.SetAndObserveImageData(made(scene, array, affine).GetImageData())
    for name, volume in {
        "none": None,
        "empty": empty,
        "labels": labels,
        "sheared": made(scene, array, sheared, "tilted"),
    }.items():
        try:
            prepare(volume, Path(folder))
            found[name] = "accepted"
        except MedSegError as error:
            found[name] = str(error)
    return found


def bundles(medseg):
    job = MedSegLogic(new_scene(), medseg).list_bundles()
    while job.poll():
        time.sleep(0.01)
    return {"bundles": [b.title for b in job.bundles], "error": str(job.error)}


def peaks():
    """`peak` against a search over every block and voxel."""
    rng, agree = np.random.default_rng(5), 0
    for _ in range(200):
        shape, steps = rng.integers(1, 9, 3), rng.integers(1, 5, 3).tolist()
        values = rng.random(shape).astype(np.float32)
        best, block = -1.0, None
        for corner in np.ndindex(*(-(-n // s) for n, s in zip(shape, steps, strict=True))):
            place = tuple(slice(c * s, (c + 1) * s) for c, s in zip(corner, steps, strict=True))
            if values[place].mean(dtype=np.float64) > best + 1e-12:
                best, block = values[place].mean(dtype=np.float64), (place, corner)
        place, corner = block
        inside = np.unravel_index(int(np.argmax(values[place])), values[place].shape)
        expected = tuple(int(c * s + n) for c, s, n in zip(corner, steps, inside, strict=True))
        agree += peak(values, steps) == expected
    nan = np.full((3, 3, 3), np.nan, np.float32)
    nan[1, 2, 0] = 0.5
    scene = new_scene()
    zeros = made(scene, np.zeros((3, 3, 3), np.float32), np.eye(4))
    return {"agree": agree, "nan": peak(nan, [2, 2, 2]), "zeros": most_uncertain(zeros)}


def widget(medseg, startup=True):
    """The panel as a user goes through it; see stand_in_qt."""
    import stand_in_qt

    os.environ["PATH"] = "/usr/bin:/bin"  # where there is no medseg
    os.environ.pop("MEDSEG_EXECUTABLE", None)
    scene, found = new_scene(), {}
    folder = Path(__file__).parents[2] / "scripts" / "slicer" / "MedSeg"

    def before_slicer():
        if not startup:
            raise AttributeError("app")
        return {"PATH": os.environ["PATH"], "TMPDIR": os.environ["TMPDIR"]}

    module = stand_in_qt.install(scene, folder, before_slicer)
    panel = module.MedSegWidget()
    panel.setup()
    ui = panel.ui

    def settle(until=lambda: False):
        start = time.monotonic()
        while (panel.timer.running or panel.typed.running) and not until():
            assert time.monotonic() - start < 60
            panel.typed.tick()
            panel.timer.tick()
            time.sleep(0.02)

    settle()
    found["unset"] = ui.statusLabel.text
    ui.medsegPathEdit.currentPath = medseg
    settle()
    found["setting"] = stand_in_qt.Settings.values["MedSeg/Executable"]
    found["bundles"] = [item[:2] for item in ui.bundleComboBox.items]
    found["tip"] = ui.bundleComboBox.items[0][2]
    found["without volume"] = [ui.applyButton.enabled, ui.applyButton.toolTip]
    ui.volumeSelector.setCurrentNode(made(scene, *phantom()))
    found["with volume"] = [ui.applyButton.enabled, ui.cancelButton.enabled, ui.jumpButton.enabled]
    ui.samplesSpinBox.value = 9
    samples = [ui.samplesSpinBox.enabled]
    ui.uncertaintyComboBox.currentIndex = 1
    found["samples"] = [*samples, ui.samplesSpinBox.enabled]
    ui.applyButton.click()
    found["busy"] = [ui.applyButton.enabled, ui.cancelButton.enabled, ui.progressBar.maximum]
    found["command"] = panel.job.command[-5:]
    settle(until=lambda: ui.progressBar.value == 250)
    found["at a quarter"] = [ui.progressBar.value, ui.progressBar.maximum, ui.statusLabel.text]
    settle()
    found["done"] = [ui.applyButton.enabled, ui.cancelButton.enabled, ui.jumpButton.enabled, ui.progressBar.value]
    found["status"], found["log"] = ui.statusLabel.text, ui.logText.plainText
    found["views"] = views(scene)
    ui.jumpButton.click()
    found["nodes"] = len(results(scene))
    for name, bundle in (("failed", "domain"), ("cancel", "wait"), ("closed", "wait")):
        ui.bundlePathEdit.currentPath = bundle
        ui.applyButton.click()
        pid = panel.job.process.pid
        settle(until=lambda: "pid" in ui.statusLabel.text)
        if name == "cancel":
            ui.cancelButton.click()
            found["stopping"] = [ui.statusLabel.text, ui.cancelButton.enabled]
        if name == "closed":
            scene.Clear(0)
        settle()
        found[name] = [
            ui.statusLabel.text,
            ui.progressBar.maximum,
            ui.applyButton.enabled,
            Path(f"/proc/{pid}").exists(),
        ]
    ui.volumeSelector.setCurrentNode(None)
    found["no volume"] = ui.applyButton.enabled
    ui.volumeSelector.setCurrentNode(made(scene, *phantom()))
    ui.applyButton.click()
    pid = panel.job.process.pid
    panel.cleanup()
    found["cleaned"] = [panel.timer.running, Path(f"/proc/{pid}").exists()]
    return found


def own_tests(medseg):
    """The tests that the module brings for the application itself."""
    import stand_in_qt

    folder = Path(__file__).parents[2] / "scripts" / "slicer" / "MedSeg"
    module = stand_in_qt.install(new_scene(), folder, lambda: dict(os.environ))
    stand_in_qt.Settings.values["MedSeg/Executable"] = medseg
    slicer.app = type("App", (), {"processEvents": staticmethod(lambda: time.sleep(0.01))})
    slicer.util.tempDirectory = lambda: os.environ["TMPDIR"]
    slicer.util.addVolumeFromArray = lambda array: made(slicer.mrmlScene, array.transpose(2, 1, 0), np.eye(4))
    module.MedSegTest("runTest").runTest()
    return {"ran": True}


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))) + "\n")
