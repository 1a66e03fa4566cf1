"""One .mrb holds the scene and all that it names; 3D Slicer loads it in test_scene_in_slicer.py."""

from __future__ import annotations

import shutil
import zipfile
from xml.etree import ElementTree as ET

import pytest

from medseg.errors import OutputError
from medseg.reports import mrb
from medseg.reports.mrb import write_mrb
from medseg.reports.scene import SCENE, write_scene
from tests.reports import phantom


@pytest.fixture
def case(tmp_path):
    folder = tmp_path / "case"
    phantom.write_case(folder, phantom.view())
    return folder


def stored(scene: bytes) -> list[str]:
    return [node.get("fileName") for node in ET.fromstring(scene) if node.get("fileName")]


def test_every_file_is_in_it_as_it_is(case, tmp_path):
    write_mrb(case, tmp_path / "x.mrb")
    with zipfile.ZipFile(tmp_path / "x.mrb") as archive:
        scene = archive.read("scene/scene.mrml")
        assert stored(scene) == [f"Data/{name}" for name in stored((case / SCENE).read_bytes())]
        assert len(stored(scene)) == 5
        assert sorted(archive.namelist()) == sorted(["scene/scene.mrml", *(f"scene/{name}" for name in stored(scene))])
        for name in stored(scene):
            assert archive.read(f"scene/{name}") == (case / name.removeprefix("Data/")).read_bytes()
    before, after = (ET.fromstring(text) for text in ((case / SCENE).read_bytes(), scene))
    for a, b in zip(before, after, strict=True):
        assert {**a.attrib, "fileName": ""} == {**b.attrib, "fileName": ""}


def test_one_scene_gives_one_file(case, tmp_path):
    for name in ("x.mrb", "y.mrb"):
        write_mrb(case, tmp_path / name)
    assert (tmp_path / "x.mrb").read_bytes() == (tmp_path / "y.mrb").read_bytes()


def test_files_of_one_name_in_two_folders(case, tmp_path):
    (case / "sub dir").mkdir()
    shutil.move(case / "image.nii.gz", case / "sub dir" / "uncertainty_entropy.nii.gz")
    write_scene(case, phantom.view(), image_file="sub dir/uncertainty_entropy.nii.gz")
    write_mrb(case, tmp_path / "x.mrb")
    with zipfile.ZipFile(tmp_path / "x.mrb") as archive:
        image, *_, entropy, _, _ = stored(archive.read("scene/scene.mrml"))
        assert (image, entropy) == ("Data/uncertainty_entropy.nii.gz", "Data/2_uncertainty_entropy.nii.gz")
        for name, source in ((image, "sub dir/uncertainty_entropy.nii.gz"), (entropy, "uncertainty_entropy.nii.gz")):
            assert archive.read(f"scene/{name}") == (case / source).read_bytes()


@pytest.mark.parametrize("name", [SCENE, "image.nii.gz", "uncertainty.ctbl"])
def test_a_file_that_is_missing_is_named(case, tmp_path, name):
    (case / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        write_mrb(case, tmp_path / "x.mrb")
    assert not (tmp_path / "x.mrb").exists()


def test_a_disk_that_changes_bytes_is_found_out(case, tmp_path, monkeypatch):
    pack = mrb._pack

    def torn(path, text, files):
        pack(path, text, files)
        data = bytearray(path.read_bytes())
        data[data.find((case / "image.nii.gz").read_bytes()) + 50] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(mrb, "_pack", torn)
    with pytest.raises(OutputError, match="could not be read back") as caught:
        write_mrb(case, tmp_path / "x.mrb")
    assert caught.value.code == "MS-O105"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case"]
