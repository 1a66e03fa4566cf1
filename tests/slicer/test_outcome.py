from __future__ import annotations

import json
import subprocess

import pytest
from MedSegLib.errors import MedSegError
from MedSegLib.outcome import CODES, read_outcome


def run(fake, tmp_path, bundle, *more):
    """What became of a run of the fake command."""
    scan, out = tmp_path / "scan ü.nii.gz", tmp_path / "out"
    words = [str(fake), "predict", str(scan), "-o", str(out), "-b", bundle, "--json", *more]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return read_outcome(done.returncode, done.stdout, done.stderr.splitlines(), out)


@pytest.mark.parametrize(
    ("bundle", "code", "what", "mend"),
    [
        ("domain", "MS-X101", "it is too small", "add --outside-domain"),
        ("refused", "MS-B210", "two bundles would fit\nliver v2\nliver v3", "name one of them"),
        ("memory", "", CODES[5][0], CODES[5][1]),
        ("usage", "", CODES[2][0] + ": No such option: --uncertainty", CODES[2][1]),
        ("bug", "", CODES[1][0] + ": ValueError: no", CODES[1][1]),
        ("silent", "", "medseg ended with exit code 0", "read the messages below"),
        ("killed", "", "medseg was ended by signal 9, as happens when memory runs out", CODES[5][1]),
    ],
)
def test_a_failed_run_is_told_in_the_words_of_medseg(fake, tmp_path, bundle, code, what, mend):
    with pytest.raises(MedSegError) as caught:
        run(fake, tmp_path, bundle)
    error = caught.value
    assert (error.code, error.what, error.mend) == (code, what, mend)


def test_the_file_of_an_error_may_have_blanks_and_umlauts(fake, tmp_path):
    with pytest.raises(MedSegError) as caught:
        run(fake, tmp_path, "refused")
    assert caught.value.file == "/models/liver v2"
    with pytest.raises(MedSegError) as caught:
        run(fake, tmp_path, "domain")
    assert caught.value.file == str(tmp_path / "scan ü.nii.gz")
    assert str(caught.value) == f"MS-X101: it is too small\nin {tmp_path / 'scan ü.nii.gz'}\n-> add --outside-domain"


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7, 130])
def test_every_exit_code_of_medseg_is_explained(code):
    with pytest.raises(MedSegError) as caught:
        read_outcome(code, "", [], None)
    assert (caught.value.what, caught.value.mend) == CODES[code]


def case(folder, **more):
    return json.dumps({"cases": [{"status": "done", "folder": str(folder), **more}]})


def test_the_files_of_a_result(tmp_path):
    folder = tmp_path / "scan"
    folder.mkdir()
    (folder / "segmentation.nii.gz").touch()
    found = read_outcome(0, case(folder, notes=["coarse"]), [], tmp_path)
    assert (found.segmentation.name, found.maps, found.colours, found.measurements) == (
        "segmentation.nii.gz",
        {},
        None,
        None,
    )
    assert (found.notes, found.outside_domain) == (("coarse",), ())
    for name in ("segmentation.seg.nrrd", "uncertainty_entropy.nii.gz", "uncertainty.ctbl", "measurements.csv"):
        (folder / name).touch()
    found = read_outcome(0, case(folder), [], tmp_path)
    assert found.segmentation.name == "segmentation.seg.nrrd"
    assert found.maps == {"entropy": folder / "uncertainty_entropy.nii.gz"}
    assert (found.colours, found.measurements) == (folder / "uncertainty.ctbl", folder / "measurements.csv")


def test_a_result_that_is_not_there_or_lies_elsewhere(tmp_path):
    with pytest.raises(MedSegError, match="there is no segmentation"):
        read_outcome(0, case(tmp_path / "scan"), [], tmp_path)
    with pytest.raises(MedSegError, match="outside the folder"):
        read_outcome(0, case(tmp_path / "scan"), [], tmp_path / "out")


def test_nothing_is_taken_from_a_run_that_failed(tmp_path):
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "segmentation.nii.gz").touch()
    with pytest.raises(MedSegError, match="interrupted"):
        read_outcome(130, case(tmp_path / "scan"), [], tmp_path)


def test_the_names_of_files_are_those_of_medseg():
    from MedSegLib.outcome import MAPS

    from medseg.reports import case_view

    assert MAPS == case_view.MAPS
    assert [case_view.map_file(key) for key in MAPS] == [f"uncertainty_{key}.nii.gz" for key in MAPS]
