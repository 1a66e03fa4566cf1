"""The whole way in 3D Slicer's own code (slicer-core): volume node -> medseg -> nodes, with a fake and the real command."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

BUNDLE = "hippocampus_mri_segmentation"
REAL = str(Path(sys.executable))  # a Python that has medseg


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def turned(affine, shape):
    """The affine after the third axis is turned round."""
    flip = np.diag([1.0, 1, -1, 1])
    flip[2, 3] = shape[2] - 1
    return np.asarray(affine) @ flip


def test_a_volume_of_the_scene_gets_segments_maps_and_table(fake, in_slicer):
    found = in_slicer("segment", medseg=fake, bundle="sound", uncertainty="mc:4")
    assert found.get("error") is None
    assert [(s["name"], s["value"]) for s in found["segments"]] == [("Dim «ä»", 1), ("Bright", 2)]
    np.testing.assert_allclose([s["colour"] for s in found["segments"]], [(0.25, 0.5, 0.75), (1, 0, 0.2)], atol=1 / 255)
    assert [s["voxels"] for s in found["segments"]] == [3 * 4 * 3, 2 * 3 * 3]
    affine = np.array(found["affine"])
    for segment, centre in zip(found["segments"], [(3, 4.5, 2, 1), (7.5, 9, 6, 1)], strict=True):
        np.testing.assert_allclose(segment["affine"], affine, atol=1e-6)
        np.testing.assert_allclose(segment["centre"], (affine @ centre)[:3], atol=1e-4)
    assert found["reference"].split() == [found["volume"]]
    assert found["notes"] == ["coarse", "outside the training data: age"]
    assert found["table"]["structure"] == ["Dim «ä»", "Bright"]
    assert found["table"]["voxels"] == ["36", "18"]
    assert found["table"]["predicted_dice"] == ["nan", "0.75"]
    assert found["numbers"] == ["value", "voxels", "volume_ml", "predicted_dice"]


def test_uncertainty_can_be_seen_and_judged(fake, in_slicer):
    found = in_slicer("segment", medseg=fake, bundle="sound", uncertainty="mc:4")
    assert found["command"][-2:] == ["--uncertainty", "mc:4"]
    assert found["fill"] == [False, 0.0]
    assert found["outline"]
    entropy, mutual = found["maps"]["entropy"], found["maps"]["mutual_information"]
    for shown, top in ((entropy, 1.0), (mutual, 0.05)):
        np.testing.assert_allclose(shown["affine"], turned(found["affine"], shown["shape"]), atol=1e-6)
        assert shown["window"] == [0.0, top]
        assert shown["applied"]
        lower, upper = shown["threshold"]
        assert 0 < lower == pytest.approx(0.02 * top)
        assert upper > max(shown["range"][1], top)
        assert shown["rgb"] == [100, 155, 7]
    place = (np.array(found["affine"]) @ (8, 9, 6, 1))[:3]
    np.testing.assert_allclose(found["peak"], place, atol=1e-4)
    for view in found["views"]:
        assert view["background"] == found["volume"]
        assert view["foreground"].startswith("vtkMRMLScalarVolumeNode")
        assert view["foreground"] != found["volume"]
        assert view["opacity"] == 0.7
        np.testing.assert_allclose(view["at"], place, atol=1e-4)


def test_progress_is_told_and_the_temporary_files_are_gone(fake, in_slicer):
    found = in_slicer("segment", medseg=fake, bundle="sound", uncertainty="tta")
    assert [0.25, "12 of 48 windows, about 9.1 s left"] in found["texts"]
    assert found["over"] is False
    assert found["left"] == []
    assert not any(found["stored"]), "no node may point to a file that is gone"


def test_results_can_be_kept_and_two_runs_do_not_meet(fake, in_slicer, tmp_path):
    keep = tmp_path / "Ergebnisse für mich"
    keep.mkdir()
    assert in_slicer("segment", medseg=fake, bundle="sound", keep=keep)["out"] == ["made_sound"]
    again = in_slicer("segment", medseg=fake, bundle="sound", uncertainty="tta", keep=keep)
    assert sorted(again["out"]) == ["made_sound", "made_sound_2"]
    assert (keep / "made_sound_2" / "scan" / "segmentation.seg.nrrd").is_file()
    assert again["stored"] == [True, True, True, False, True]


def test_what_stops_a_run_before_it_begins(fake, in_slicer, tmp_path):
    keep = tmp_path / "keep"
    keep.mkdir()
    found = in_slicer("unstarted", medseg=fake, gone=tmp_path / "gone", keep=keep)
    assert "no folder for the results can be made: No such file" in found["gone"]
    assert "no bundle is chosen" in found["bundle"]
    assert "is no way to find uncertainty" in found["uncertainty"]
    assert "does not exist" in found["medseg"]
    assert (found["left"], found["out"]) == ([], [])


def test_without_uncertainty_there_is_a_segmentation_alone(fake, in_slicer):
    found = in_slicer("segment", medseg=fake, bundle="sound")
    assert "--uncertainty" not in found["command"]
    assert (found["maps"], found["peak"], len(found["segments"])) == ({}, None, 2)
    assert [v["foreground"] for v in found["views"]] == [None] * 3


def test_a_label_map_without_names_gets_them_from_the_measurements(fake, in_slicer):
    found = in_slicer("segment", medseg=fake, bundle="sound-plain")
    assert [(s["name"], s["value"]) for s in found["segments"]] == [("Dim «ä»", 1), ("Bright", 2)]
    assert found["segments"][0]["colour"] != found["segments"][1]["colour"]
    assert [s["voxels"] for s in found["segments"]] == [36, 18]


def test_the_volume_may_go_while_medseg_works(fake, in_slicer):
    found = in_slicer("segment", medseg=fake, bundle="sound", gap=True, uncertainty="tta")
    assert found.get("error") is None
    assert len(found["segments"]) == 2


@pytest.mark.parametrize(
    ("bundle", "words"),
    [("domain", "MS-X101: it is too small"), ("refused", "MS-B210"), ("memory", "not enough memory"), ("silent", "0")],
)
def test_a_failed_run_loads_nothing(fake, in_slicer, tmp_path, bundle, words):
    keep = tmp_path / "keep"
    keep.mkdir()
    found = in_slicer("segment", medseg=fake, bundle=bundle, keep=keep)
    assert words in found["error"]
    assert (found["nodes"], found["left"], found["out"]) == (0, [], [])


@pytest.mark.parametrize(("bundle", "words"), [("astray", "outside the folder"), ("unreadable", "cannot be read")])
def test_a_bad_result_is_loaded_whole_or_not_at_all(fake, in_slicer, bundle, words):
    found = in_slicer("segment", medseg=fake, bundle=bundle, uncertainty="tta")
    assert words in found["error"]
    assert (found["nodes"], found["left"]) == (0, [])


@pytest.mark.parametrize(("bundle", "code"), [("wait", 130), ("stubborn", -9), ("late", 0)])
def test_cancel_loads_nothing_and_leaves_nothing(fake, in_slicer, tmp_path, bundle, code):
    keep = tmp_path / "keep"
    keep.mkdir()
    found = in_slicer("cancelled", medseg=fake, bundle=bundle, keep=keep)
    if bundle != "late":  # whether it ends by itself first is a race
        assert found["code"] == code
    assert (found["loaded"], found["error"], found["nodes"]) == (False, "None", 0)
    assert (found["left"], found["out"]) == ([], [])
    assert not any(alive(pid) for pid in re.findall(r"\d+", found["pids"].partition("pid")[2]))


def test_when_slicer_closes_medseg_ends(fake, in_slicer):
    found = in_slicer("killed", medseg=fake)
    pids = re.findall(r"\d+", found["pids"].partition("pids")[2])
    assert len(pids) == 2
    assert not any(map(alive, pids))
    assert (found["over"], found["left"]) == (True, [])


@pytest.mark.parametrize("warp", [False, True])
def test_results_stand_under_the_transform_of_their_volume(fake, in_slicer, warp):
    found = in_slicer("transformed", medseg=fake, warp=warp)
    assert {found["transform"], found["maps"]["entropy"]["transform"]} == {found["expected"]}
    place = (np.array(found["affine"]) @ (8, 9, 6, 1))[:3]
    moved = np.subtract(found["peak"], place)
    if warp:
        assert 1e-3 < np.linalg.norm(moved) < 100
    else:
        np.testing.assert_allclose(moved, (100, 0, 0), atol=1e-4)


def test_its_own_file_stands_for_a_volume_only_when_nothing_changed(in_slicer, data, tmp_path):
    scan = tmp_path / "Müller 1" / "scan.nii.gz"
    scan.parent.mkdir()
    shutil.copy(data("hippocampus") / "imagesTr" / "hippocampus_001.nii.gz", scan)
    (tmp_path / "copies").mkdir()
    assert in_slicer("sources", scan=scan, folder=tmp_path / "copies") == {
        "untouched": ["file", "scan.nii.gz", True],
        "painted": ["copy", "scan.nii", True],
        "moved": ["copy", "scan.nii", True],
        "memory": ["copy", "scan_1.nii", True],
        "left": ["file", "left.nii", True],
        "gone": ["copy", "scan.nii", True],
    }


def test_what_cannot_be_handed_over(in_slicer, tmp_path):
    found = in_slicer("refused", folder=tmp_path)
    assert "no image" in found["none"]
    assert "no image" in found["empty"]
    assert "labels or colours" in found["labels"]
    assert "not perpendicular" in found["sheared"]
    assert "harden" in found["sheared"]


def by_position(folder):
    """The files of a series in the order in which Slicer's DICOM module hands them over."""

    def along(path):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        row, column = np.reshape(np.array(header.ImageOrientationPatient, float), (2, 3))
        return float(np.dot(np.cross(row, column), np.array(header.ImagePositionPatient, float)))

    return [str(path) for path in sorted(folder.iterdir(), key=along)]


@pytest.mark.parametrize("name", ["mr_oblique_siemens", "ct_head_64x64x93_slicer"])
def test_a_dicom_series_is_handed_over_as_it_is(fake, in_slicer, data, name):
    found = in_slicer("dicom", medseg=fake, files=by_position(data("dicom") / "dev" / name))
    assert found.get("error") is None
    assert found["kind"] == "dicom"
    assert len(found["handed"]) == found["shape"][2]
    assert found["notes"] == ["coarse", "outside the training data: age"], "the result lies where the volume lies"
    assert found["name"] == "volume"


def test_a_volume_that_lies_elsewhere_than_its_series_is_told(fake, in_slicer, data):
    """Read in the wrong order, or without a correction of the tilt, slices lie elsewhere than medseg puts them."""
    tilted = by_position(data("dicom") / "dev" / "ct_tilt_pos16_philips_sub")
    shuffled = by_position(data("dicom") / "dev" / "mr_oblique_siemens")[::3]
    for files in (tilted, [*shuffled[1::2], *shuffled[::2]]):
        found = in_slicer("dicom", medseg=fake, files=files)
        assert found["kind"] == "dicom"
        assert "does not lie on the volume's own grid" in found["notes"][-1]


def test_results_of_a_straightened_series_stand_in_the_patient(fake, in_slicer, data):
    files = by_position(data("dicom") / "dev" / "ct_tilt_pos16_philips_sub")
    found = in_slicer("transformed", medseg=fake, warp=True, dicom=files)
    assert (found["kind"], found["transform"]) == ("dicom", None)
    assert found["notes"] == ["coarse", "outside the training data: age"]


def test_the_highest_block(in_slicer):
    assert in_slicer("peaks") == {"agree": 200, "nan": [1, 2, 0], "zeros": None}


def test_bundles_are_listed(fake, in_slicer):
    found = in_slicer("bundles", medseg=fake)
    assert found == {"bundles": ["sound 1.2.0", "recipe 0.1.0 (no weights: a recipe)"], "error": "None"}


@pytest.mark.slow
def test_the_real_command_on_a_real_scan(in_slicer, data, tmp_path):
    """What stands in the scene is what `medseg.predict` gives, voxel for voxel in number and in place."""
    import medseg

    scan = tmp_path / "Müller 1" / "hippocampus 015.nii.gz"
    scan.parent.mkdir()
    shutil.copy(data("hippocampus") / "imagesTr" / "hippocampus_015.nii.gz", scan)
    found = in_slicer("segment", medseg=REAL, bundle=BUNDLE, scan=scan, device="cpu")
    assert found.get("error") is None
    assert (found["kind"], found["left"]) == ("file", [])
    assert not any("own grid" in note for note in found["notes"])
    expected = medseg.predict(scan, BUNDLE).segmentation
    names = {label.value: label.name for label in expected.labels}
    assert {s["value"]: s["name"] for s in found["segments"]} == names
    for segment in found["segments"]:
        there = np.argwhere(expected.array == segment["value"])
        assert segment["voxels"] == len(there)
        centre = (expected.affine @ (*there.mean(axis=0), 1))[:3]
        np.testing.assert_allclose(segment["centre"], centre, atol=1e-4)
    assert found["table"]["structure"] == list(names.values())
    assert [float(n) for n in found["table"]["voxels"]] == [s["voxels"] for s in found["segments"]]


@pytest.mark.slow
def test_the_uncertainty_of_the_real_command(in_slicer, data, tmp_path):
    """What stands in the scene is what the files hold that the command wrote."""
    import medseg

    scan = data("hippocampus") / "imagesTr" / "hippocampus_015.nii.gz"
    found = in_slicer("segment", medseg=REAL, bundle=BUNDLE, scan=scan, uncertainty="mc:3", keep=tmp_path)
    assert found.get("error") is None
    assert not any("own grid" in note for note in found["notes"])
    (folder,) = (path.parent for path in tmp_path.rglob("record.json") if (path.parent / "scene.mrml").exists())
    written = medseg.read(folder / "segmentation.nii.gz")
    for segment, label in zip(found["segments"], written.labels, strict=True):
        assert (segment["name"], segment["value"]) == (label.name, label.value)
        np.testing.assert_allclose(segment["colour"], np.divide(label.colour, 255), atol=1e-5)
        np.testing.assert_allclose(segment["affine"], written.affine, atol=1e-6)
        there = np.argwhere(written.array == label.value)
        assert segment["voxels"] == len(there)
        np.testing.assert_allclose(segment["centre"], (written.affine @ (*there.mean(axis=0), 1))[:3], atol=1e-4)
    for key, shown in found["maps"].items():
        values = medseg.read(folder / f"uncertainty_{key}.nii.gz").array
        np.testing.assert_allclose(shown["range"], (values.min(), values.max()), atol=1e-6)
        assert shown["threshold"][0] > 0
        assert shown["threshold"][1] > values.max()
        assert shown["colours"] == "medseg uncertainty"
    assert set(found["maps"]) == {"entropy", "mutual_information"}
    i, j, k = np.rint(np.linalg.solve(written.affine, (*found["peak"], 1))[:3]).astype(int)
    entropy = medseg.read(folder / "uncertainty_entropy.nii.gz").array
    assert entropy[i, j, k] > 0.8 * entropy.max()
    assert "predicted_dice" in found["table"]
    assert float(found["table"]["volume_sd_ml"][0]) > 0


@pytest.mark.slow
def test_the_real_command_refuses_in_its_own_words(in_slicer):
    found = in_slicer("segment", medseg=REAL, bundle=BUNDLE)
    assert re.match(r"MS-X\d+: ", found["error"])
    assert "--outside-domain" in found["error"]
    assert found["nodes"] == 0


@pytest.mark.slow
def test_the_real_command_on_a_real_dicom_series(in_slicer, data):
    files = by_position(data("dicom") / "dev" / "mr_hippocampus_crop_13")
    found = in_slicer("dicom", medseg=REAL, files=files, bundle=BUNDLE, uncertainty="")
    assert found.get("error") is None
    assert found["kind"] == "dicom"
    assert [s["value"] for s in found["segments"]] == [1, 2]
    assert min(s["voxels"] for s in found["segments"]) > 500
