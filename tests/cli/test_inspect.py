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


def test_a_note_that_many_scans_share_is_said_once_and_series_can_be_copied(monkeypatch, tmp_path, capsys):
    from medseg.readers.finding import Finding
    from medseg.volume import Decision

    uids = [f"1.2.826.0.1.3680043.2.1125.1.65375240934815452318141136507497{n:03d}" for n in range(4)]
    shared, own = Decision("MS-D213", "7 damaged files were left out"), Decision("MS-D209", "a single slice")
    findings = [
        Finding(
            path=str(tmp_path),
            name=f"s{n}",
            format="dicom",
            verdict="ok",
            series=uid,
            decisions=(shared, own)[: 1 + (n == 0)],
        )
        for n, uid in enumerate(uids)
    ]
    monkeypatch.setattr("medseg.readers.cases.survey_input", lambda path, options: findings)
    assert run(["inspect", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert said.count("7 damaged files were left out") == 1
    assert "MS-D213 7 damaged files were left out (4 scans)" in said
    assert "MS-D209 a single slice" in said
    assert all(f"--series {uid}   s{n}" in said for n, uid in enumerate(uids))


def test_off_a_terminal_no_cell_is_folded(scans, capsys, tmp_path):
    name = "a_very_long_name_" * 12
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([1, 1, 2, 1]))
    image.set_qform(image.affine, 1)
    nib.save(image, tmp_path / f"{name}.nii.gz")
    assert run(["inspect", str(tmp_path)]) == 0
    assert name in capsys.readouterr().err
