"""`medseg verify`: what is as it was recorded, and everything that is not, by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from medseg.errors import BundleError, RecordError
from medseg.workflows.form import SCHEMA_FILE
from medseg.workflows.predict import predict
from medseg.workflows.seal import read_sealed, sealed
from medseg.workflows.verify import verify
from medseg.writers.atomic import sha256, write_json
from tests.workflows.recorded_run import Made, make


@pytest.fixture(scope="module")
def pristine(toy_bundle, tmp_path_factory):
    return make(
        toy_bundle, tmp_path_factory.mktemp("pristine"), uncertainty="mc:2", samples=True, mrb=True, dicom="binary"
    )


@pytest.fixture
def made(pristine, tmp_path) -> Made:
    return pristine.copy(tmp_path / "made")


def findings(made: Made, **options) -> list[tuple[str, str]]:
    return [(f.code, f.file) for f in verify(made.out, **{"bundle": made.bundle, **options}).findings]


def reseal(path: Path, **changes) -> None:
    write_json(path, sealed({**read_sealed(path), **changes}))


def dicom_case(made: Made) -> str:
    (folder,) = made.out.glob("case-*")
    return folder.name


def test_an_untouched_run_is_as_it_was_recorded(made):
    report = verify(made.out, bundle=made.bundle, source=made.scans)
    assert report.findings == ()
    assert report.notes == ()
    assert report.exit_code == 0
    of_bundle = 3
    of_input = 2 + 12
    assert report.files == len(made.files()) + of_bundle + of_input
    assert len(made.files()) > 45, "every kind of output is among them"


def test_what_is_not_looked_at_is_said(made, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    report = verify(made.out)
    assert report.exit_code == 0
    assert [note.split(":")[0] for note in report.notes] == [
        "the weights of small were not looked at",
        "the input was not looked at",
    ]


def test_a_bundle_is_found_by_its_name(made, monkeypatch):
    monkeypatch.chdir(made.place)
    assert verify(made.out).notes[0].startswith("the input")


@pytest.mark.parametrize("flat", [False, True])
def test_any_layout_and_the_folder_of_one_case(toy, scans, tmp_path, flat):
    predict(scans / "a.nii.gz", toy, tmp_path / "out", views=False, flat=flat)
    assert verify(tmp_path / "out", bundle=toy.root).exit_code == 0
    if not flat:
        assert verify(tmp_path / "out" / "a", bundle=toy.root).exit_code == 0
        assert verify(tmp_path / "out" / "a" / "record.json", bundle=toy.root).exit_code == 0


def test_every_file_that_is_missing_is_named(made):
    for path in [made.record("a"), *made.files()[::5]]:
        if path == made.record():
            continue
        shutil.move(path, made.place / "aside")
        found = findings(made)
        assert found[0] == ("MS-V104", path.relative_to(made.out).as_posix())
        assert path.name == "record.json" or len(found) == 1
        shutil.move(made.place / "aside", path)


def test_files_that_no_record_tells_of_are_named(made):
    for name in ("notes.txt", "a/segmentation.kept-1.nii.gz", "new/deep/record.json", ".hidden", "a/dicom/more.dcm"):
        (made.out / name).parent.mkdir(parents=True, exist_ok=True)
        (made.out / name).write_bytes(b"mine")
    (made.out / "b" / "link").symlink_to(made.scans)
    wanted = [
        ".hidden",
        "a/dicom/more.dcm",
        "a/segmentation.kept-1.nii.gz",
        "b/link",
        "new/deep/record.json",
        "notes.txt",
    ]
    assert findings(made) == [("MS-V105", name) for name in wanted]


def test_a_changed_input_is_named_and_a_moved_one_is_found(made):
    moved = made.place / "elsewhere" / "deep"
    shutil.copytree(made.scans, moved)
    (moved / "a.nii.gz").rename(moved / "renamed.nii.gz")
    assert findings(made, source=moved.parent) == []
    content = bytearray((moved / "b.nii.gz").read_bytes())
    content[100] ^= 1
    (moved / "b.nii.gz").write_bytes(content)
    assert findings(made, source=moved) == [("MS-V108", "b.nii.gz")]
    slices = sorted((moved / "d").iterdir())
    slices[3].unlink()
    assert [code for code, _ in findings(made, source=moved)] == ["MS-V108"] * 2


def test_another_bundle_is_named(made, toy_bundle):
    found = findings(made, bundle=toy_bundle)
    assert {code for code, _ in found} == {"MS-V107"}
    assert {file for _, file in found} == {"small/configs/inference.json", "small/models/model.pt"}
    with pytest.raises(BundleError, match="MS-B101"):
        verify(made.out, bundle="nothing_of_this_name")


def test_scans_in_the_folder_of_results_are_known(toy, scans, tmp_path):
    """As `medseg demo` does: its scans and their list lie beside the results."""
    out = tmp_path / "out"
    shutil.copytree(scans, out / "input")
    (out / "cases.csv").write_text("name,image\nx,input/a.nii.gz\ny,input/b.nii.gz\n", encoding="utf-8")
    (out / "input" / "c.nii.gz").unlink()
    predict(out / "cases.csv", toy, out, overwrite=True)
    assert verify(out, bundle=toy.root).findings == ()
    (out / "cases.csv").write_text("name,image\n", encoding="utf-8")
    assert [(f.code, f.file) for f in verify(out, bundle=toy.root).findings] == [("MS-V105", "cases.csv")]


def test_another_record_that_is_whole_is_told_from_the_right_one(made):
    reseal(made.record("a"), status="done", peak_memory_mb=1.0)
    assert findings(made) == [("MS-V110", "a/record.json")]


def test_a_run_that_was_killed(made):
    reseal(made.record(), state="running", records={}, files={})
    found = findings(made)
    assert found[0] == ("MS-V106", "record.json")
    assert verify(made.out / "a", bundle=made.bundle).exit_code == 0


def test_an_interrupted_run_is_whole_as_far_as_it_went(made):
    reseal(made.record(), state="interrupted")
    report = verify(made.out, bundle=made.bundle)
    assert report.exit_code == 0
    assert "interrupted" in report.notes[0]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cases": {"../../etc": "done"}, "records": {"../../etc": "0" * 64}}, "MS-V109"),
        ({"cases": {"..": "done"}, "records": {"..": "0" * 64}}, "MS-V109"),
        ({"cases": {"C:\\x": "done"}, "records": {"C:\\x": "0" * 64}}, "MS-V109"),
        ({"files": {"../../../etc/passwd": "0" * 64}}, "MS-V109"),
    ],
)
def test_a_record_that_names_files_elsewhere_reads_none(made, changes, code, monkeypatch):
    opened = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: (opened.append(self.resolve()), real(self, *a, **k))[1])
    reseal(made.record(), **changes)
    assert code in {finding for finding, _ in findings(made)}
    assert [path for path in opened if not path.is_relative_to(made.place)] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"outputs": {"../../scans/a.nii.gz": "0" * 64}},
        {"outputs": ["segmentation.nii.gz"]},
        {"outputs": {"segmentation.nii.gz": "short"}},
        {"bundle": {"name": "small", "version": "1", "sha256": {"../x": 7}}},
        {"input": {}},
        {"bundle": None},
    ],
)
def test_a_case_record_of_another_form_is_refused(made, changes):
    reseal(made.record("a"), **changes)
    reseal(made.record(), records={**read_sealed(made.record())["records"], "a": sha256(made.record("a"))})
    assert ("MS-V109", "a/record.json") in findings(made)


def test_a_bundle_file_elsewhere_is_not_read(made):
    told = {"name": "small", "version": "1", "sha256": {"../../../etc/passwd": "0" * 64}}
    reseal(made.record("a"), bundle=told)
    report = verify(made.out / "a", bundle=made.bundle)
    assert [(f.code, f.file) for f in report.findings] == [("MS-V107", "small/../../../etc/passwd")]
    assert "no bundle has such a file" in report.findings[0].what


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RecordError, match="MS-V101"):
        verify(tmp_path)
    write_json(tmp_path / "record.json", sealed({"schema": "medseg-record/1", "ranked": []}))
    with pytest.raises(RecordError, match=r"MS-V101 .*another command"):
        verify(tmp_path)


def strict(schema: dict) -> dict:
    """The schema with nothing allowed that it does not describe, but where it says what else there may be."""
    for kind in ("case", "run"):
        one = schema["$defs"][kind]
        one["additionalProperties"] = False
        for name in ("input", "parameters", "settings"):
            if name in one["properties"]:
                one["properties"][name]["additionalProperties"] = False
    schema["$defs"]["produced"]["additionalProperties"] = False
    return schema


def test_records_have_the_form_that_is_shipped_and_nothing_beyond(made, toy, scans, tmp_path):
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(strict(schema))
    predict(scans / "a.nii.gz", toy, tmp_path / "plain", views=False)
    paths = [*made.out.rglob("record.json"), *(tmp_path / "plain").rglob("record.json")]
    assert len(paths) == 4 + 2
    for path in paths:
        validator.validate(json.loads(path.read_text(encoding="utf-8")))
