"""scene.mrml as XML: every reference leads somewhere; 3D Slicer itself loads it in test_scene_in_slicer.py."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.reports.planes import CT_WINDOW, window_of
from medseg.reports.scene import COLOURS, SCENE, scene_xml, write_scene
from medseg.volume import Source, Volume
from medseg.writers.nrrd import one_line
from tests.reports import phantom
from tests.writers.test_nifti import random_affine


def parsed(view, **options) -> ET.Element:
    return ET.fromstring(scene_xml(view, **options).encode("utf-8"))


def references(node: ET.Element) -> dict[str, list[str]]:
    entries = [entry.split(":") for entry in node.get("references", "").split(";") if entry]
    return {role: ids.split() for role, ids in entries}


def by_class(root: ET.Element, tag: str) -> dict[str, ET.Element]:
    return {node.get("name"): node for node in root.iter(tag)}


def display(root: ET.Element, volume: ET.Element) -> ET.Element:
    return next(node for node in root.iter("VolumeDisplay") if node.get("id") == references(volume)["display"][0])


@pytest.mark.parametrize("maps", [(), ("entropy",), ("mutual_information",), ("mutual_information", "entropy")])
def test_every_reference_leads_to_a_node_and_every_file_exists(tmp_path, maps):
    view = phantom.view()
    view = phantom.view(maps={key: view.maps[key] for key in maps})
    phantom.write_case(tmp_path, view)
    root = ET.parse(tmp_path / SCENE).getroot()
    ids = [node.get("id") for node in root]
    assert len(set(ids)) == len(ids)
    wanted = {one for node in root for many in references(node).values() for one in many}
    wanted |= {node.get("colorNodeID") for node in root if node.get("colorNodeID")} - {"vtkMRMLColorTableNodeGrey"}
    assert wanted - set(ids) == set()
    stored = {one for node in root for one in references(node).get("storage", ())}
    assert {node.get("id") for node in root if node.get("fileName")} == stored
    assert [n.get("fileName") for n in root if n.get("fileName") and not (tmp_path / n.get("fileName")).is_file()] == []
    assert len(list(root.iter("Volume"))) == len(list(root.iter("ColorLegendDisplay"))) + 1 == len(maps) + 1
    assert (tmp_path / COLOURS).is_file() == bool(maps)


def test_what_was_written_is_said(tmp_path):
    assert write_scene(tmp_path, phantom.view()) == [SCENE, COLOURS]
    assert write_scene(tmp_path / "b", phantom.view(maps={})) == [SCENE]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [SCENE]


def test_entropy_is_shown_and_mutual_information_is_there():
    root = parsed(phantom.view())
    volumes = by_class(root, "Volume")
    shown = {tuple(references(node)["foregroundVolume"]) for node in root.iter("SliceComposite")}
    assert shown == {(volumes["Predictive entropy"].get("id"),)}
    assert "Mutual information" in volumes
    alone = parsed(phantom.view(maps={"mutual_information": phantom.entropy()}))
    shown = {tuple(references(node)["foregroundVolume"]) for node in alone.iter("SliceComposite")}
    assert shown == {(by_class(alone, "Volume")["Mutual information"].get("id"),)}


def test_without_maps_nothing_lies_over_the_image():
    root = parsed(phantom.view(maps={}))
    assert not [*root.iter("ColorTable"), *root.iter("ColorLegendDisplay")]
    for node in root.iter("SliceComposite"):
        assert "foregroundVolume" not in references(node)
        assert node.get("foregroundOpacity") == "0"


@given(st.floats(0, 1, width=32), st.sampled_from(["entropy", "mutual_information"]))
def test_zero_is_transparent_and_the_most_uncertain_voxel_never(highest, key):
    array = np.zeros(phantom.SHAPE, np.float32)
    array[5, 6, 7] = highest
    root = parsed(phantom.view(maps={key: array}))
    shown = display(root, list(root.iter("Volume"))[1])
    assert shown.get("applyThreshold") == "1"
    assert shown.get("autoThreshold") == shown.get("autoWindowLevel") == "0"
    window, level = float(shown.get("window")), float(shown.get("level"))
    assert 0 < float(shown.get("lowerThreshold")) <= 0.02
    assert float(shown.get("upperThreshold")) > highest
    assert level == pytest.approx(window / 2), "colours begin at 0"
    assert window >= highest
    assert window == 1 if key == "entropy" else window <= max(1, 2.6 * highest, 0.05)


@pytest.mark.parametrize(("modality", "expected"), [("CT", CT_WINDOW), ("MR", None)])
def test_the_image_has_the_window_of_its_modality(modality, expected):
    grey = phantom.view().image.array
    root = parsed(phantom.view(image=Volume(grey, phantom.oblique(), Source(modality=modality))))
    shown = display(root, next(root.iter("Volume")))
    window, level = float(shown.get("window")), float(shown.get("level"))
    low, high = expected or window_of(grey, modality)
    assert (level - window / 2, level + window / 2) == pytest.approx((low, high), rel=1e-6)


def test_of_channels_the_first_rules_the_window():
    view = phantom.view()
    both = Volume(np.stack([view.image.array, view.image.array * 0]), view.image.affine, view.image.source)
    assert scene_xml(phantom.view(image=both)) == scene_xml(view)


def test_segments_are_outlined_and_not_filled():
    node = next(parsed(phantom.view()).iter("SegmentationDisplay"))
    assert (node.get("Visibility2DFill"), node.get("Visibility2DOutline")) == ("false", "true")
    assert float(node.get("Opacity2DFill")) == 0


@given(st.integers(0, 2**31))
def test_the_slices_meet_at_the_most_uncertain_place_and_hold_the_scan(seed):
    affine = random_affine(seed)
    view = phantom.view()
    turned = phantom.view(
        image=Volume(view.image.array, affine), segmentation=Volume(phantom.labels(), affine, labels=phantom.TABLE)
    )
    root = parsed(turned)
    corners = turned.image.grid.corners_mm
    for node in root.iter("Slice"):
        matrix = np.array([float(x) for x in node.get("sliceToRAS").split()]).reshape(4, 4)
        index = np.linalg.inv(affine) @ matrix[:, 3]
        # Spacing decides how wide the neighbourhood is, but the peak falls off to every side alike.
        np.testing.assert_allclose(index[:3], phantom.UNCERTAIN, atol=1.01)
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
        width, height, _ = (float(x) for x in node.get("fieldOfView").split())
        assert width == height
        size = np.ptp(corners @ matrix[:3, :2], axis=0)
        assert (size < width).all()
    assert {node.get("linkedControl") for node in root.iter("SliceComposite")} == {"1"}


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_name_is_escaped(name, note):
    root = parsed(phantom.view(name=name, warning="", notes=(note,)))
    assert next(root.iter("Volume")).get("name") == one_line(name)
    assert next(root.iter("Text")).get("text") == one_line(note)


def test_a_warning_stands_in_the_names_that_slicer_writes_into_its_views():
    root = parsed(phantom.view())
    assert next(root.iter("Volume")).get("name") == 'case "A" & <b> (OUTSIDE TRAINING DOMAIN)'
    assert next(root.iter("Segmentation")).get("name").endswith("(OUTSIDE TRAINING DOMAIN)")
    plain = parsed(phantom.view(warning="", notes=()))
    assert next(plain.iter("Volume")).get("name") == 'case "A" & <b>'
    assert list(plain.iter("Text")) == []


def test_another_image_file_is_named_as_a_url():
    root = parsed(phantom.view(), image_file="../scans/a b%20é.nii.gz")
    assert next(root.iter("VolumeArchetypeStorage")).get("fileName") == "../scans/a%20b%2520%C3%A9.nii.gz"


def test_one_case_gives_one_scene():
    assert scene_xml(phantom.view()) == scene_xml(phantom.view())
