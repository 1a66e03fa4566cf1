"""The panel, gone through as a user does, with stand-ins for Qt's controls: Qt itself is not in slicer-core."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[2] / "scripts" / "slicer" / "MedSeg"


@pytest.mark.parametrize("startup", [True, False])
def test_a_user_goes_through_the_panel(fake, in_slicer, startup):
    found = in_slicer("widget", medseg=fake, startup=startup)
    assert found["unset"].startswith(
        "medseg was not found: nothing is set, and there is no medseg on the PATH\n-> install"
    )
    assert found["setting"] == str(fake)
    assert found["bundles"] == [["sound 1.2.0", "sound"]], "a recipe cannot be chosen"
    assert found["tip"].splitlines() == ["Needs: one channel", "Finds: 1 dim, 2 bright"]
    assert found["without volume"] == [False, "Choose a volume and a bundle first."]
    assert found["with volume"] == [True, False, False]
    assert found["samples"] == [False, True]
    assert found["busy"] == [False, True, 0]
    assert found["command"] == ["-b", "sound", "--json", "--uncertainty", "mc:9"]
    assert found["at a quarter"] == [250, 1000, "12 of 48 windows, about 9.1 s left"]
    assert found["done"] == [True, False, True, 1000]
    assert found["status"] == "done. For research use only.\ncoarse\noutside the training data: age"
    assert found["log"].startswith("'")
    assert "note: coarse" in found["log"]
    assert found["log"].count("[1/1] scan: done") == 1
    assert all(view["foreground"] for view in found["views"])
    assert found["nodes"] == 3
    assert found["failed"][0].startswith("MS-X101: it is too small")
    assert found["failed"][1:] == [1000, True, False]
    assert found["stopping"] == ["stopping medseg", False]
    assert found["cancel"] == ["cancelled: nothing was loaded", 1000, True, False]
    assert found["closed"][0] == "cancelled: nothing was loaded"
    assert found["closed"][3] is False
    assert found["no volume"] is False
    assert found["cleaned"] == [False, False]


def test_the_tests_that_the_module_brings(fake, in_slicer):
    assert in_slicer("own_tests", medseg=fake) == {"ran": True}


def sources():
    return sorted(MODULE.rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
def test_slicer_may_be_as_old_as_its_python_3_9(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
def test_neither_torch_nor_medseg_nor_monai_is_imported_and_the_logic_knows_no_qt(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    found |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not found & {"torch", "monai", "medseg", "nibabel", "SimpleITK"}
    if path.parent.name == "MedSegLib":
        assert not found & {"qt", "ctk", "slicer"}


def test_what_cmake_installs_is_what_there_is():
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8").replace("${MODULE_NAME}", "MedSeg")
    there = [
        p for p in MODULE.rglob("*") if p.is_file() and "__pycache__" not in p.parts and p.name != "CMakeLists.txt"
    ]
    for path in there:
        assert path.relative_to(MODULE).as_posix() in text.split()
    listed = [word for word in text.split() if word.endswith((".py", ".png", ".ui"))]
    assert {MODULE / word for word in listed} == set(there)
