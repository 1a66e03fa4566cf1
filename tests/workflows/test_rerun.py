"""`medseg rerun`: the same bytes again, and a refusal where anything that decides about them is another."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pydicom
import pytest
import torch

from medseg.errors import BundleError, OutputError, RecordError
from medseg.readers.options import ReadOptions
from medseg.workflows import recorded
from medseg.workflows.layout import DICOM
from medseg.workflows.predict import predict
from medseg.workflows.rerun import rerun
from medseg.workflows.seal import read_sealed, sealed
from medseg.workflows.verify import verify
from medseg.writers.atomic import sha256, write_json
from tests.workflows.recorded_run import Made, make

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def pristine(toy_bundle, tmp_path_factory):
    """Monte Carlo dropout with samples kept, DICOM objects, the scene as one file."""
    place = tmp_path_factory.mktemp("pristine")
    return make(toy_bundle, place, uncertainty="mc:2", seed=7, samples=True, mrb=True, dicom="binary")


@pytest.fixture
def made(pristine, tmp_path) -> Made:
    return pristine.copy(tmp_path / "made")


def again(made: Made, record: Path | None = None, **options):
    return rerun(record or made.out, **{"source": made.scans, "bundle": made.bundle, **options})


def reseal(path: Path, **changes) -> None:
    write_json(path, sealed({**read_sealed(path), **changes}))


def test_every_output_is_the_same_byte_for_byte(made, tmp_path):
    report = again(made, out=tmp_path / "again")
    assert report.exit_code == 0
    assert [case.differing for case in report.cases] == [()] * 3
    equal = {case.name: set(case.equal) for case in report.cases}
    (from_dicom,) = (name for name in equal if name.startswith("case-"))
    assert set(DICOM) <= equal[from_dicom]
    assert {"segmentation.nii.gz", "uncertainty_entropy.nii.gz", "samples.seq.nrrd", "scene.mrb"} <= equal["a"]
    assert sum(map(len, equal.values())) == len(made.files()) - 3 - len(list(made.out.rglob("record.json")))
    for case, files in equal.items():
        for file in files:
            assert (tmp_path / "again" / case / file).read_bytes() == (made.out / case / file).read_bytes()
    assert verify(tmp_path / "again", bundle=made.bundle, source=made.scans).findings == ()


def test_without_uncertainty_and_without_keeping_anything(toy_bundle, tmp_path):
    made = make(toy_bundle, tmp_path / "plain", views=False)
    before = {path: path.read_bytes() for path in made.files()}
    report = again(made)
    assert report.exit_code == 0
    assert [len(case.equal) for case in report.cases] == [4] * 3
    assert {path: path.read_bytes() for path in made.files()} == before
    assert not list(made.place.glob("medseg-rerun-*"))


def test_one_case_by_its_own_record_from_scans_that_were_moved_and_renamed(made, tmp_path):
    moved = tmp_path / "archive"
    shutil.copytree(made.scans, moved)
    (moved / "a.nii.gz").rename(moved / "x.nii.gz")
    (moved / "b.nii.gz").rename(moved / "a.nii.gz")
    report = again(made, made.record("a"), source=moved)
    assert [(case.name, case.differing) for case in report.cases] == [("a", ())]


def test_a_record_whose_paths_lead_from_here(made, monkeypatch):
    monkeypatch.chdir(made.scans)
    assert again(made, made.record("b"), source=None).exit_code == 0


def test_a_series_that_was_named_by_its_uid(made, tmp_path):
    first = next((made.scans / "d").iterdir())
    uid = str(pydicom.dcmread(first).SeriesInstanceUID)
    reading = ReadOptions(series=uid)
    predict(made.scans / "d", made.bundle, tmp_path / "one", options=reading, outside_domain=True, views=False)
    (record,) = (tmp_path / "one").glob("*/record.json")
    assert uid not in record.read_text(encoding="utf-8")
    assert again(made, record, source=made.scans / "d").exit_code == 0


def test_outputs_that_differ_are_named(made):
    record = read_sealed(made.record("a"))
    reseal(made.record("a"), outputs={**record["outputs"], "preview.png": "0" * 64})
    report = again(made, made.record("a"))
    assert report.exit_code == 8
    assert report.cases[0].differing == ("preview.png",)
    assert len(report.cases[0].equal) == len(record["outputs"]) - 1


def test_another_processor_is_told(made):
    ran = read_sealed(made.record("a"))["inference"]
    reseal(made.record("a"), inference={**ran, "processor": "vax NO_FPU"})
    assert any(note.startswith("processor: then vax NO_FPU, now ") for note in again(made, made.record("a")).notes)


def test_it_is_not_written_over_anything(made):
    with pytest.raises(OutputError, match="MS-O303"):
        again(made, out=made.out)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_a_changed_input_is_refused(made):
    flip(made.scans / "b.nii.gz")
    with pytest.raises(RecordError, match=r"MS-V122 .*input of b is not found at the place named") as caught:
        again(made)
    assert "--input" in caught.value.mend


def test_an_input_that_nobody_names_is_refused(made, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecordError, match=r"MS-V122 .*is not found from here"):
        again(made, source=None)


def test_another_key_of_the_pseudonyms_is_refused(made, tmp_path):
    (key,) = made.place.rglob("medseg-key.json")
    key.rename(tmp_path / "kept.json")
    with pytest.raises(RecordError, match=r"MS-V122 .*the key of the pseudonyms is not by the input"):
        again(made)
    (name,) = (p.parent.name for p in made.out.glob("case-*/record.json"))
    assert again(made, made.record(name), case_key=tmp_path / "kept.json").exit_code == 0


@pytest.mark.parametrize("file", ["models/model.pt", "configs/inference.json", "configs/metadata.json"])
def test_a_changed_bundle_is_refused_before_it_is_loaded(made, file):
    flip(made.bundle / file)
    with pytest.raises(RecordError, match=f"MS-V121 .*{file} .*changed"):
        again(made)
    (made.bundle / file).unlink()
    with pytest.raises((RecordError, BundleError), match=r"MS-V121 .*missing|MS-B102"):
        again(made)


def test_a_bundle_that_is_not_found_by_its_name_is_refused(made, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecordError, match=r"MS-V121 .*small 0.0.1 is not found by its name"):
        again(made, bundle=None)


def test_other_versions_are_refused(made, monkeypatch):
    now = recorded.versions()
    monkeypatch.setattr(recorded, "versions", lambda: now | {"torch": "3.0.0", "isal": "9"})
    with pytest.raises(
        RecordError, match=rf"MS-V120 .*torch {now['torch']} \(here 3.0.0\)".replace("+", r"\+")
    ) as caught:
        again(made)
    assert f'"torch=={now["torch"]}"' in caught.value.mend
    monkeypatch.setattr(recorded, "versions", lambda: now | {"python": "3.99.0"})
    with pytest.raises(RecordError, match=r"MS-V120 .*python"):
        again(made)


@pytest.mark.skipif(torch.cuda.is_available(), reason="gpu: is here")
def test_a_device_that_is_not_here_is_refused_unless_another_is_named(made):
    record = read_sealed(made.record("a"))
    reseal(made.record("a"), inference={**record["inference"], "device": "cuda:0", "gpu": "NVIDIA H100"})
    with pytest.raises(RecordError, match=r"MS-V123 .*cuda:0 \(NVIDIA H100\)"):
        again(made, made.record("a"))
    report = again(made, made.record("a"), device="cpu")
    assert any(note.startswith("device: then cuda:0, now cpu") for note in report.notes)


def test_a_changed_record_is_refused(made):
    flip(made.record("a"))
    with pytest.raises(RecordError, match=r"MS-V102"):
        again(made)


def test_a_record_of_another_run_is_refused(made):
    reseal(made.record("a"), peak_memory_mb=1.0)
    with pytest.raises(RecordError, match=r"MS-V110"):
        again(made)
    assert again(made, made.record("a")).exit_code == 0


@pytest.mark.parametrize("part", ["produced", "read"])
def test_something_that_only_a_later_medseg_knows_is_refused(made, part):
    asked = read_sealed(made.record("a"))["parameters"]
    reseal(made.record("a"), parameters={**asked, part: {**asked[part], "warp": True}})
    with pytest.raises(RecordError, match=r"MS-V124 .*warp"):
        again(made, made.record("a"))


def test_an_array_is_no_file(made, scan, tmp_path):
    import medseg

    result = medseg.predict(scan, str(made.bundle), outside_domain=True)
    result.save(tmp_path / "array")
    assert verify(tmp_path / "array", bundle=made.bundle).exit_code == 0
    with pytest.raises(RecordError, match=r"MS-V124 .*array"):
        again(made, tmp_path / "array")


def test_a_run_without_results_has_nothing_to_make_again(made):
    reseal(made.record(), cases={"a": "failed"}, records={})
    with pytest.raises(RecordError, match="MS-V124"):
        again(made)


def test_a_case_that_fails_is_told_and_the_others_are_compared(made, monkeypatch):
    from medseg.workflows import run as runs

    real = runs.run_case

    def failing(name, *args, **kwargs):
        if name == "a":
            raise MemoryError
        return real(name, *args, **kwargs)

    monkeypatch.setattr(runs, "run_case", failing)
    report = again(made)
    assert report.exit_code == 6
    assert [case.name for case in report.cases if case.failure.startswith("MS-M310")] == ["a"]
    assert sum(bool(case.equal) for case in report.cases) == 2


def test_a_run_whose_cases_were_done_in_two_ways(made):
    """Resumed with --deterministic: each case is made again as it was made."""
    reseal(made.record("b"), parameters={**read_sealed(made.record("b"))["parameters"], "deterministic": True})
    reseal(made.record(), records={**read_sealed(made.record())["records"], "b": sha256(made.record("b"))})
    assert again(made).exit_code == 0
