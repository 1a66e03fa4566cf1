"""Scenes, bundles and sequences in 3D Slicer's own libraries: what it loads, and what it draws.

The libraries live in a venv of their own (scripts/slicer-venv.sh). One process loads everything and draws every slice
of every scene; the tests look at what it found and compare each pixel with the place of the patient that Slicer says
it shows.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from scipy import ndimage

from medseg.reports.colour_table import colours
from medseg.reports.mrb import write_mrb
from medseg.reports.scene import CERTAIN
from medseg.volume import Volume
from medseg.writers.sequence import write_sequence
from tests.reports import phantom

PROBE = Path(__file__).with_name("slicer_probe.py")
VENV = Path(__file__).parents[2] / ".venv-slicer"
VIEWS = ("Red", "Yellow", "Green")
#: Job -> scenes that show the phantom with both maps; all must look alike.
ALIKE = ("scene", "moved", "mrb")
SEGMENTATION = 'case "A" & <b> segmentation (OUTSIDE TRAINING DOMAIN)'
IMAGE = 'case "A" & <b> (OUTSIDE TRAINING DOMAIN)'


def left_handed() -> np.ndarray:
    """The phantom's affine mirrored, as of files stored LAS."""
    affine = phantom.oblique()
    affine[:3, 0] *= -1
    return affine


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Job -> what Slicer found; `pictures(job, view, what)` -> (rows, columns, 3) 0-255."""
    if not (VENV / "complete").is_file():
        pytest.skip("3D Slicer's libraries are not here (install them with scripts/slicer-venv.sh)")
    root = tmp_path_factory.mktemp("slicer")
    case = phantom.view()
    phantom.write_case(root / "scene", case)
    phantom.write_case(root / "before", case)
    (root / "another place").mkdir()
    shutil.move(root / "before", root / "another place" / "größer & <x> 100%")
    write_mrb(root / "scene", root / "alone" / "scan 1.mrb")
    phantom.write_case(root / "plain", phantom.view(maps={}, warning="", notes=()))
    turned = {
        "image": Volume(case.image.array, left_handed()),
        "segmentation": Volume(phantom.labels(), left_handed(), labels=phantom.TABLE),
    }
    phantom.write_case(root / "left", phantom.view(**turned))
    samples = [phantom.labels() * np.uint8(n + 1) for n in range(3)]
    write_sequence(root / "samples.seq.nrrd", samples, phantom.oblique(), count=3)
    write_sequence(root / "maps.seq.nrrd", [phantom.entropy() * x for x in (1, 0.5)], phantom.oblique(), count=2)
    jobs = {
        "scene": root / "scene" / "scene.mrml",
        "moved": root / "another place" / "größer & <x> 100%" / "scene.mrml",
        "mrb": root / "alone" / "scan 1.mrb",
        "plain": root / "plain" / "scene.mrml",
        "left": root / "left" / "scene.mrml",
        "samples": root / "samples.seq.nrrd",
        "maps": root / "maps.seq.nrrd",
    }
    out = root / "out"
    out.mkdir()
    run = subprocess.run(
        [VENV / "bin" / "python", PROBE, json.dumps([str(path) for path in jobs.values()]), out],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    errors = [line for line in run.stderr.splitlines() if "ERR" in line]
    assert errors == []
    found = dict(zip(jobs, json.loads((out / "found.json").read_text(encoding="utf-8")), strict=True))
    numbers = {job: n for n, job in enumerate(jobs)}

    def picture(job: str, view: str, what: str) -> np.ndarray:
        png = matplotlib.image.imread(out / f"{numbers[job]}-{view}-{what}.png")
        return np.round(png[..., :3] * 255).astype(int)

    return found, picture


@pytest.fixture
def found(seen):
    return seen[0]


@pytest.fixture
def picture(seen):
    return seen[1]


def shown(found, job, view) -> np.ndarray:
    """(rows, columns, 3) continuous voxel index that each pixel of a picture shows, by Slicer's own matrix."""
    drawn = found[job]["views"][view]
    width, height = drawn["size"]
    x, y = np.meshgrid(np.arange(width), np.arange(height)[::-1])  # row 0 of a picture is the top
    points = np.stack([x, y, np.zeros_like(x), np.ones_like(x)], axis=-1) @ np.array(drawn["xy_to_ras"]).T
    affine = left_handed() if job == "left" else phantom.oblique()
    return (points @ np.linalg.inv(affine).T)[..., :3]


def sampled(array, index, order=1) -> np.ndarray:
    return ndimage.map_coordinates(array.astype(float), index.transpose(2, 0, 1), order=order, mode="constant")


def test_scenes_load_in_whole(found):
    for job in (*ALIKE, "plain", "left"):
        assert found[job]["fine"], job
        assert found[job]["views"]["Red"]["window"] == "vtkEGLRenderWindow"
        assert [found[job]["views"][v]["orientation"] for v in VIEWS] == ["Axial", "Sagittal", "Coronal"]
        assert found[job]["layout"] == [3]


@pytest.mark.parametrize("job", ALIKE)
def test_volumes_lie_where_they_lie(found, job):
    volumes = found[job]["volumes"]
    assert set(volumes) == {IMAGE, "Predictive entropy", "Mutual information"}
    for volume in volumes.values():
        np.testing.assert_allclose(volume["affine"], phantom.oblique(), atol=1e-6)
        assert tuple(volume["shape"]) == phantom.SHAPE
        assert volume["class"] == "vtkMRMLScalarVolumeNode"
        assert volume["auto"] == 0


def test_left_handed_files_lie_where_they_lie(found):
    """Slicer turns their slices round; the corners of the grid stay."""
    corners = np.array([(a, b, c, 1) for a in (0, 35) for b in (0, 29) for c in (0, 19)])
    expected = corners @ left_handed().T
    for volume in found["left"]["volumes"].values():
        theirs = corners @ np.array(volume["affine"]).T
        distances = np.linalg.norm(theirs[:, None] - expected[None], axis=-1)
        assert distances.min(axis=1).max() < 1e-5


def test_windows_thresholds_and_colours(found):
    volumes = found["scene"]["volumes"]
    image, entropy, mutual = (volumes[name] for name in (IMAGE, "Predictive entropy", "Mutual information"))
    assert (image["colours"], image["apply"]) == ("Grey", 0)
    assert (entropy["window"], entropy["level"]) == (1, 0.5)
    assert (mutual["window"], mutual["level"]) == (pytest.approx(0.1), pytest.approx(0.05))
    for volume in (entropy, mutual):
        assert (volume["colours"], volume["apply"]) == ("Uncertainty", 1)
        assert volume["displays"] == ["vtkMRMLScalarVolumeDisplayNode", "vtkMRMLColorLegendDisplayNode"]
        assert 0 < volume["lower"] == pytest.approx(CERTAIN * volume["window"])
        assert volume["upper"] > volume["range"][1]
    count, kind, rgba = found["scene"]["colours"]["Uncertainty"]
    assert (count, kind) == (256, 14)
    for n, colour in zip((0, 128, 255), rgba, strict=True):
        np.testing.assert_allclose(colour, [*(c / 255 for c in colours()[n]), 1], atol=1e-9)


@pytest.mark.parametrize("job", [*ALIKE, "left"])
def test_segments_are_whole_named_coloured_and_coded(found, job):
    segmentation = found[job]["segmentations"][SEGMENTATION]
    assert (segmentation["fill"], segmentation["outline"]) == (False, True)
    assert segmentation["reference"] == "vtkMRMLScalarVolumeNode901"
    segments = segmentation["segments"]
    assert [segment["name"] for segment in segments] == [label.name for label in phantom.TABLE]
    affine = left_handed() if job == "left" else phantom.oblique()
    for segment, label in zip(segments, phantom.TABLE, strict=True):
        assert segment["value"] == label.value
        assert segment["surface"], "Slicer makes what its 3D view shows"
        np.testing.assert_allclose(segment["colour"], np.array(label.colour) / 255, atol=1e-5)
        np.testing.assert_allclose(segment["affine"], affine, atol=1e-6)
        mask = np.isin(phantom.labels(), label.region or (label.value,))
        np.testing.assert_array_equal(segment["inside"], np.flatnonzero(mask.reshape(-1, order="F")))
    codes = [segment["terminology"].split("~")[1:4] for segment in segments]
    assert codes[0] == ["SCT^49755003^Morphologically Altered Structure", "SCT^4147007^Mass", "^^"]
    assert codes[2] == ["SCT^123037004^Anatomical Structure", "SCT^64033007^Kidney", "SCT^7771000^Left"]
    assert codes[3] == ["SCT^85756007^Tissue", "SCT^85756007^Tissue", "^^"]
    assert [segment["volume_ml"] for segment in segments] == [None, None, "12.3", None]


def test_views_are_linked_and_meet_at_the_most_uncertain_place(found):
    for job in ALIKE:
        for view in VIEWS:
            composite = found[job]["composites"][view]
            assert (composite["background"], composite["foreground"]) == (IMAGE, "Predictive entropy")
            assert (composite["linked"], composite["opacity"]) == (1, pytest.approx(0.7))
            centre = np.array(found[job]["slices"][view]["matrix"])[:, 3]
            index = np.linalg.inv(phantom.oblique()) @ centre
            np.testing.assert_allclose(index[:3], phantom.UNCERTAIN, atol=1e-5)
    plain = found["plain"]["composites"]["Red"]
    assert (plain["background"], plain["opacity"]) == ('case "A" & <b>', 0)


def test_notes_and_legends(found):
    assert found["scene"]["notes"] == {
        "What to look at": "OUTSIDE TRAINING DOMAIN\nthe scan <ends> inside & the kidney"
    }
    assert set(found["scene"]["legends"]) == {"Predictive entropy", "Mutual information"}
    assert found["plain"]["notes"] == found["plain"]["legends"] == {}


@pytest.mark.parametrize("job", [*ALIKE, "left"])
@pytest.mark.parametrize("view", VIEWS)
def test_the_overlay_is_where_the_model_is_uncertain_and_nowhere_else(found, picture, job, view):
    index = shown(found, job, view)
    value = sampled(phantom.entropy(), index)
    overlay, image = picture(job, view, "overlay"), picture(job, view, "image")
    changed = (overlay != image).any(axis=-1)
    uncertain, certain = value > CERTAIN + 0.02, value < CERTAIN - 0.01
    assert uncertain.sum() > 1000
    assert changed[uncertain].mean() > 0.995
    assert not changed[certain].any()
    # What is drawn: 0.7 of the colour of that uncertainty over 0.3 of the grey of that place. Interpolation in
    # Slicer happens in float32 and to 1/256 of a voxel, so a steep flank may differ by a few colours.
    table = np.array(colours())
    expected = 0.7 * table[np.clip(np.round(value * 255), 0, 255).astype(int)] + 0.3 * image
    difference = np.abs(overlay - expected).max(axis=-1)[uncertain]
    assert np.percentile(difference, 95) <= 6
    peak = ndimage.maximum_filter(value, 3) == value.max()
    assert changed[peak].all(), "the most uncertain voxel is not transparent"


@pytest.mark.parametrize("view", VIEWS)
def test_the_image_is_where_it_belongs_in_its_window(found, picture, view):
    index = shown(found, "scene", view)
    volume = found["scene"]["volumes"][IMAGE]
    grey = sampled(phantom.view().image.array, index)
    inside = np.all((index > 0.5) & (index < np.array(phantom.SHAPE) - 1.5), axis=-1)
    expected = np.clip((grey - volume["level"]) / volume["window"] + 0.5, 0, 1) * 255
    difference = np.abs(picture("scene", view, "image")[..., 0] - expected)[inside]
    assert inside.sum() > 20_000
    assert np.percentile(difference, 99) < 4


@pytest.mark.parametrize("view", VIEWS)
def test_segments_are_outlines_at_their_edges(found, picture, view):
    index = shown(found, "scene", view)
    scene, overlay = picture("scene", view, "scene"), picture("scene", view, "overlay")
    drawn = (scene != overlay).any(axis=-1)
    legend = np.zeros_like(drawn)
    legend[:, 220:] = True  # the legend stands at the right
    for label in phantom.TABLE:
        mask = np.isin(phantom.labels(), label.region or (label.value,))
        inside = sampled(mask, index) > 0.5
        if not inside.any():
            continue
        pure = (scene == np.array(label.colour)).all(axis=-1) & ~legend
        edge = ndimage.binary_dilation(inside, iterations=4) & ~ndimage.binary_erosion(inside, iterations=4)
        assert pure.sum() > 40, label.name
        assert edge[pure].mean() > 0.99, label.name
    whole = sampled(np.isin(phantom.labels(), (1, 2)), index) > 0.5
    core = sampled(phantom.labels() == 2, index) > 0.5
    far = ndimage.binary_erosion(whole, iterations=9) & ~ndimage.binary_dilation(core, iterations=9)
    far |= ndimage.binary_erosion(core, iterations=9)
    far[:, 220:] = False
    assert far.sum() > 100
    assert not drawn[far].any(), "no fill covers the uncertainty"


def test_the_3d_view_shows_the_surfaces_from_the_front(picture):
    """From the front the patient's left is on the right; hue tells the structures apart, shading their brightness."""
    solid = picture("scene", "3D", "scene").astype(float)
    corners = np.array([[a, b, c, 1] for a in (0, 35) for b in (0, 29) for c in (0, 19)]) @ phantom.oblique().T
    middle = corners[:, :3].mean(axis=0)
    scale = 200 / np.linalg.norm(corners[:, :3] - middle, axis=1).max()  # pixels a mm, about: perspective aside
    for value in (1, 3, 7):
        colour = np.array(phantom.TABLE.by_value[value].colour) / 255
        bright = solid.max(axis=-1)
        hue = solid / np.maximum(bright, 1)[..., None]
        rows, columns = np.nonzero((bright > 60) & (np.abs(hue - colour).max(axis=-1) < 0.15))
        assert len(rows) > 100, value
        inside = np.argwhere(np.isin(phantom.labels(), phantom.TABLE.by_value[value].region or (value,)))
        x, _, z = phantom.oblique()[:3] @ [*inside.mean(axis=0), 1] - middle
        assert columns.mean() == pytest.approx(199.5 - scale * x, abs=25)
        assert rows.mean() == pytest.approx(199.5 - scale * z, abs=25)


def test_the_legend_is_drawn_and_only_over_maps(picture):
    right = (slice(0, 300), slice(330, 390))
    difference = np.abs(picture("scene", "Red", "scene") - picture("scene", "Red", "overlay"))[right]
    assert (difference > 60).any(axis=-1).sum() > 300
    assert (picture("plain", "Red", "scene")[right] == picture("plain", "Red", "overlay")[right]).all()


@pytest.mark.parametrize("job", ALIKE[1:])
def test_a_moved_folder_and_a_bundle_look_the_same(picture, job):
    for view in (*VIEWS, "3D"):
        np.testing.assert_array_equal(picture(job, view, "scene"), picture("scene", view, "scene"))


def test_sequences_are_films_of_volumes(found):
    for job, wanted in (
        ("samples", [phantom.labels() * (n + 1) for n in range(3)]),
        ("maps", [phantom.entropy() * x for x in (1, 0.5)]),
    ):
        film = found[job]
        assert film["fine"]
        assert film["index_name"] == "sample"
        assert [item["index"] for item in film["items"]] == [str(n) for n in range(len(wanted))]
        for item, array in zip(film["items"], wanted, strict=True):
            np.testing.assert_allclose(item["affine"], phantom.oblique(), atol=1e-6)
            assert tuple(item["shape"]) == phantom.SHAPE
            np.testing.assert_allclose(item["values"], array.reshape(-1, order="F"), rtol=1e-6)
