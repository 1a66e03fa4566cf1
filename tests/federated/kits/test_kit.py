"""What a kit says about itself comes back as it was written; another one, or none, is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.errors import InputError
from medseg.federated.kits.kit import FILE, Kit, read_kit, write_kit
from medseg.federated.privacy.settings import Privacy

KIT = Kit(Path("/kit"), "site", "site-1", "hospital_1", "cubes", "fl.example.org", 8002, ("site-1", "site-2"))


@pytest.fixture
def folder(tmp_path):
    write_kit(Kit(tmp_path, **{key: getattr(KIT, key) for key in KIT.__dataclass_fields__ if key != "root"}))
    return tmp_path


def test_it_comes_back_as_it_was_written(folder):
    read = read_kit(folder)
    assert read.root == folder.resolve()
    for key in KIT.__dataclass_fields__:
        assert key == "root" or getattr(read, key) == getattr(KIT, key)


def test_the_setting_that_it_was_made_for_comes_back(tmp_path):
    setting = Privacy("ours", clip_norm=2.0, noise_multiplier=0.5, packing="fp16")
    write_kit(replace(KIT, root=tmp_path, privacy="ours.yaml", setting=setting))
    assert read_kit(tmp_path).setting == setting


@pytest.mark.parametrize("setting", ["none", {}, {"name": "x", "noise_multiplier": 1}, {"name": "x", "more": 1}])
def test_a_setting_that_is_not_understood_is_a_damaged_kit(folder, setting):
    said = json.loads((folder / FILE).read_text(encoding="utf-8"))
    (folder / FILE).write_text(json.dumps(said | {"setting": setting}), encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        read_kit(folder)


def test_its_file_tells_no_path_of_the_machine_that_made_it(folder):
    assert str(folder) not in (folder / FILE).read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["server", "admin"])
def test_a_kit_of_another_kind_is_refused_with_its_command(folder, kind):
    with pytest.raises(InputError, match="this is the kit of a site") as caught:
        read_kit(folder, kind)
    assert caught.value.code == "MS-J054"
    assert "medseg federate join" in caught.value.mend


def test_a_folder_that_is_no_kit_is_refused(tmp_path):
    with pytest.raises(InputError, match="is missing") as caught:
        read_kit(tmp_path, "site")
    assert caught.value.code == "MS-J054"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"sites": [], "promises": [], "surprise": 1}'])
def test_a_damaged_kit_is_refused(folder, content):
    (folder / FILE).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="damaged") as caught:
        read_kit(folder)
    assert caught.value.code == "MS-J054"


def test_its_file_is_plain(folder):
    assert json.loads((folder / FILE).read_text(encoding="utf-8"))["host"] == "fl.example.org"
