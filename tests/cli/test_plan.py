"""`medseg plan` refuses with an exit code and a code of its own; its tables go to stderr, JSON to stdout."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from medseg.cli.app import run


@pytest.fixture
def cubes(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(3):
        label = np.zeros((20, 20, 20), np.uint8)
        label[5:14, 5:14, 5:14] = 1
        for sub, array in (
            ("images", (label * 40 + rng.normal(0, 5, label.shape)).astype(np.float32)),
            ("labels", label),
        ):
            (tmp_path / "data" / sub).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "data" / sub / f"cube_{n}.nii.gz")
    return tmp_path / "data"


def test_a_plan_says_what_was_chosen_and_what_comes_next(cubes, tmp_path, capsys):
    out = tmp_path / "cubes_segmentation"
    assert run(["plan", str(cubes), "-o", str(out), "--json"]) == 0
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert said["bundle"] == str(out)
    assert {"topic", "value", "why"} == set(said["choices"][0])
    assert f"medseg train {out} {cubes} -o RUN" in printed.err
    assert "fail" not in printed.err
    assert run(["bundle", "check", str(out)]) == 0


def test_faults_exit_with_3_and_stand_in_the_json_too(cubes, tmp_path, capsys):
    (cubes / "labels" / "cube_1.nii.gz").unlink()
    assert run(["plan", str(cubes), "-o", str(tmp_path / "planned"), "--json"]) == 3
    printed = capsys.readouterr()
    assert [row["code"] for row in json.loads(printed.out)] == ["MS-T141"]
    assert "MS-T140" in printed.err
    assert not (tmp_path / "planned").exists()


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [(["--memory", "lots"], "MS-T153", 2), (["--task", "cells"], "MS-T153", 2)],
)
def test_wrong_words_exit_with_2(cubes, tmp_path, capsys, words, code, exit_code):
    assert run(["plan", str(cubes), "-o", str(tmp_path / "planned"), *words]) == exit_code
    assert code in capsys.readouterr().err
    assert not (tmp_path / "planned").exists()


def test_a_folder_that_holds_something_is_left_alone(cubes, capsys):
    assert run(["plan", str(cubes), "-o", str(cubes)]) == 7
    assert "MS-T152" in capsys.readouterr().err


def test_annotators_are_fused_and_the_next_command_names_their_list(cubes, tmp_path, capsys):
    (cubes / "labels").rename(cubes / "labels_anna")
    shutil.copytree(cubes / "labels_anna", cubes / "labels_bo")
    out = tmp_path / "fused_segmentation"
    assert run(["plan", str(cubes), "-o", str(out)]) == 3
    assert "--annotators" in capsys.readouterr().err
    assert run(["plan", str(cubes), "-o", str(out), "--annotators", "staple", "--json"]) == 0
    printed = capsys.readouterr()
    listed = tmp_path / "fused_segmentation_labels" / "cases.json"
    assert json.loads(printed.out)["data"] == str(listed)
    assert f"medseg train {out} {listed}" in printed.err
    fused = nib.load(listed.parent / "labels" / "cube_0.nii.gz")
    drawn = nib.load(cubes / "labels_bo" / "cube_0.nii.gz")
    assert (np.asarray(fused.dataobj) == np.asarray(drawn.dataobj)).all()


def test_a_cascade_can_be_asked_for(cubes, tmp_path, capsys):
    assert run(["plan", str(cubes), "-o", str(tmp_path / "cubes_segmentation"), "--cascade", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    (value,) = [choice["value"] for choice in said["choices"] if choice["topic"] == "cascade"]
    assert value.startswith("a locator on cells of 2 x 2 x 2 voxels")
    assert "--cascade" in (tmp_path / "cubes_segmentation" / "docs" / "plan.md").read_text(encoding="utf-8")
    assert run(["plan", str(cubes), "-o", str(tmp_path / "other"), "--task", "instances", "--no-cascade"]) == 2
    assert "MS-T153" in capsys.readouterr().err
