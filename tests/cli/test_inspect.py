"""`medseg inspect`: a row for each scan, and an exit code that says how many would be refused."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from medseg.cli.app import run


@pytest.fixture
def scans(tmp_path):
    """`scans(good, bad)`: a folder of so many sound NIfTI files and so many text files that bear the name of one."""

    def make(good: int, bad: int):
        for n in range(good):
            image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([1, 1, 2, 1]))
            image.set_qform(image.affine, 1)
            nib.save(image, tmp_path / f"good{n}.nii.gz")
        for n in range(bad):
            (tmp_path / f"bad{n}.nii.gz").write_text("<html>not found</html>", encoding="utf-8")
        return str(tmp_path)

    return make


@pytest.mark.parametrize(("good", "bad", "code"), [(2, 0, 0), (1, 1, 6), (0, 1, 3)])
def test_the_exit_code_says_how_much_is_usable(scans, good, bad, code, capsys):
    assert run(["inspect", scans(good, bad), "--json"]) == code
    rows = json.loads(capsys.readouterr().out)
    assert sum(row["refused"] for row in rows) == bad
    assert sum(not row["refused"] for row in rows) == good
    assert all(row["code"].startswith("MS-") and row["message"] for row in rows if row["refused"])


def test_the_table_shows_shape_spacing_and_axes(scans, capsys):
    assert run(["inspect", scans(1, 0)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "4x5x6" in err
    assert "1 x 1 x 2" in err
    assert "RAS" in err


def test_a_path_that_is_not_there_is_refused(tmp_path, capsys):
    assert run(["inspect", str(tmp_path / "nothing")]) == 3
    assert "nothing" in capsys.readouterr().err


def test_a_wrong_orientation_is_wrong_usage(scans, capsys):
    assert run(["inspect", scans(1, 0), "--assume-orientation", "RRS"]) == 2
    assert "MS-U110" in capsys.readouterr().err
