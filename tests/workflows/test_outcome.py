from __future__ import annotations

from pathlib import Path

import pytest

from medseg.errors import ChoiceError, InputError, MemoryLimitError
from medseg.workflows.outcome import CaseReport, Failure, PredictReport

BAD = Failure("b", "MS-N101", "b.nii", "broken", "copy it again")
FULL = Failure("c", "MS-M101", "c.nii", "too big", "crop it", memory=True)


def report(*failures):
    cases = [CaseReport(f.case, "failed", failure=f) if f else CaseReport("a", "done", Path("a")) for f in failures]
    return PredictReport(Path("out"), tuple(cases))


@pytest.mark.parametrize(
    ("failures", "code"),
    [((None,), 0), ((), 0), ((None, BAD), 6), ((None, FULL), 6), ((BAD,), 3), ((BAD, FULL), 3), ((FULL, FULL), 5)],
)
def test_exit_codes(failures, code):
    assert report(*failures).exit_code == code


def test_an_error_of_medseg_becomes_a_row():
    error = InputError("MS-N101", "ends early", file="x.nii.gz", mend="copy it again")
    assert Failure.of("case", error, "other") == Failure("case", "MS-N101", "x.nii.gz", "ends early", "copy it again")
    bare = ChoiceError("MS-D101", "two series", mend="choose", candidates=("--series 2", "--series 3"))
    assert Failure.of("case", bare, Path("folder")) == Failure(
        "case", "MS-D101", "folder", "two series | --series 2 | --series 3", "choose"
    )
    assert Failure.of("case", MemoryLimitError("MS-M101", "full", mend="crop")).memory


def test_an_unforeseen_error_is_told_by_type_and_place_without_its_text():
    try:
        raise KeyError("DOE^JOHN")
    except KeyError as error:
        row = Failure.of("case", error, "x.dcm")
    assert row.code == "MS-O399"
    assert "KeyError at " in row.what
    assert "test_outcome:" in row.what
    assert "DOE" not in " ".join(str(v) for v in vars(row).values())


def test_the_operating_systems_no_is_told_with_its_file():
    row = Failure.of("case", OSError(28, "No space left on device", "/out/x.nii.gz"))
    assert (row.code, row.file) == ("MS-O310", "/out/x.nii.gz")
    assert "No space left" in row.what


def test_json():
    rows = report(None, BAD).to_json()
    assert rows["exit_code"] == 6
    assert [row["status"] for row in rows["cases"]] == ["done", "failed"]
    assert rows["cases"][1]["mend"] == "copy it again"
