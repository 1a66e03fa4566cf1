"""`medseg evaluate` as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from medseg.cli.app import run
from medseg.cli.evaluate import read_labels
from medseg.errors import UsageError


@pytest.fixture
def folders(tmp_path):
    cube = np.zeros((8, 8, 8), np.uint8)
    cube[2:5, 2:5, 2:5] = 1
    for name, array in (("ref/a", cube), ("ref/b", cube), ("pred/a", cube), ("pred/z", cube)):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nib.Nifti1Image(array, np.eye(4)).to_filename(path)
    return tmp_path


def test_pairs_and_orphans_come_first_and_the_json_alone_goes_to_stdout(folders, capsys):
    out = folders / "out"
    assert run(["evaluate", str(folders / "pred"), str(folders / "ref"), "-o", str(out), "--json"]) == 0
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert lines[0] == "1 of 2 references have a prediction"
    assert lines[1] == "without prediction, counted as failures: b"
    assert lines[2] == "predictions without reference, not scored: z"
    assert "report.html" in lines[-1]
    assert "0.5 (2 of 2)" in said.err
    assert json.loads(said.out)["structures"]["label 1"]["hd95_mm"]["n_finite"] == 1
    assert (out / "report.html").is_file()


def test_exit_codes(folders, capsys):
    words = ["evaluate", str(folders / "pred"), str(folders / "ref"), "-o", str(folders / "out")]
    assert run([*words, "-c", "lesionz"]) == 2
    assert "type -c lesion" in capsys.readouterr().err
    assert run([*words, "--group-by", "site"]) == 2
    assert run(["evaluate", str(folders / "nothing"), *words[2:]]) == 3
    (folders / "pred" / "a.nii.gz").write_bytes(b"broken")
    assert run(words) == 6
    assert "not scored: a: MS-" in capsys.readouterr().err
    assert run(words) == 7
    assert run([*words, "--overwrite", "-c", "lesion"]) == 6


def test_neither_torch_nor_monai_is_loaded(folders):
    code = (
        "import sys; from medseg.cli.app import run; code = run(sys.argv[1:]);"
        "sys.exit(code or any(m in sys.modules for m in ('torch', 'monai')))"
    )
    words = ["evaluate", folders / "pred", folders / "ref", "-o", folders / "out"]
    assert subprocess.run([sys.executable, "-c", code, *words], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("liver=5", {"liver": [5]}),
        ("liver=5, core=1+3", {"liver": [5], "core": [1, 3]}),
        ("liver=5:1", {"liver": {"pred": [5], "ref": [1]}}),
        ("left kidney=Kidney left:2+7", {"left kidney": {"pred": ["Kidney left"], "ref": [2, 7]}}),
    ],
)
def test_labels(text, expected):
    assert read_labels(text) == expected


def test_labels_from_a_file(tmp_path):
    (tmp_path / "map.yaml").write_text("liver: 5\ncore: [1, 3]\n")
    (tmp_path / "map.json").write_text('{"liver": {"pred": 5, "ref": 1}}')
    assert read_labels(str(tmp_path / "map.yaml")) == {"liver": 5, "core": [1, 3]}
    assert read_labels(str(tmp_path / "map.json")) == {"liver": {"pred": 5, "ref": 1}}


@pytest.mark.parametrize("text", ["liver", "=5", "liver=", "absent.yaml", "", "a=1,a=2", "a=1:", "a=:1"])
def test_labels_that_cannot_be_used(text):
    with pytest.raises(UsageError, match=r"MS-U165 --labels"):
        read_labels(text)


def test_instances_of_all_cases_together_stand_beside_another_prediction(folders, capsys):
    words = ["evaluate", str(folders / "pred"), str(folders / "ref"), "-o", str(folders / "out"), "-c", "instances"]
    assert run([*words, "--compare", str(folders / "ref")]) == 0
    said = capsys.readouterr().err
    assert "instances of all cases" in said
    (line,) = [line for line in said.splitlines() if "f1@0.5iou" in line and "mask" not in line]
    # Of two references one is found; the other prediction finds both.
    assert line.split()[:6] == ["instances", "f1@0.5iou", "0.6667", "[0,", "1]", "1"]
    assert "no prediction has scores" in said
