"""Layouts and lists as users have them: nothing is mis-paired, and no structure takes the numbers of another."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

import medseg
from medseg.errors import InputError, OutputError, UsageError
from medseg.metrics.table import direction
from medseg.readers.cases.label_maps import LabelMap
from medseg.workflows.evaluation.confidence import maps_beside
from medseg.workflows.evaluation.pairs import pair_up, people
from medseg.workflows.evaluation.protocol import Protocol

QUICK = Protocol(draws=20)
BLOCK = np.zeros((12, 12, 12), np.uint8)
BLOCK[1:5, 2:6, 2:6] = 1


def put(path, array=BLOCK, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def test_a_missing_case_is_called_as_the_other_predictions_call_theirs(tmp_path):
    for case in "abc":
        put(tmp_path / "ref" / f"{case}.nii.gz")
    for case in "bc":
        put(tmp_path / "pred" / case / "segmentation.nii.gz")
        record = {"measurements": [{"value": 1, "structure": "liver"}]}
        (tmp_path / "pred" / case / "record.json").write_text(json.dumps(record))
    found = medseg.evaluate(tmp_path / "pred", tmp_path / "ref", protocol=QUICK)
    assert list(found.summary) == ["liver"]
    assert found.summary["liver"]["dice"].mean == pytest.approx(2 / 3)
    assert [row.case for row in found.rows if row.metric == "dice"] == ["a", "b", "c"]


def test_sessions_follow_names_where_the_masks_of_each_case_are_numbered_anew(tmp_path):
    place = {"liver": 1, "spleen": 4, "aorta": 7}
    for case, names in (("one", ("liver", "spleen")), ("two", ("aorta", "liver"))):
        for name in names:
            mask = np.zeros((12, 12, 12), np.uint8)
            mask[place[name] : place[name] + 2, 2:6, 2:6] = 1
            for side in ("pred", "ref"):
                put(tmp_path / side / case / f"{name}.nii.gz", mask)
    (tmp_path / "cases.csv").write_text("case,subject,session\none,p,1\ntwo,p,2\n")
    found = medseg.evaluate(tmp_path / "pred", tmp_path / "ref", cases=tmp_path / "cases.csv", protocol=QUICK)
    changes = {r["structure"]: (r["n_stable"], r["n_vanished"], r["n_new"]) for r in found.sessions}
    assert changes == {"liver": (1, 0, 0), "spleen": (0, 1, 0), "aorta": (0, 0, 1)}


def test_sessions_are_resampled_as_the_evaluation_is_and_missing_ones_are_told(tmp_path):
    for case in "abc":
        put(tmp_path / "ref" / f"{case}.nii.gz")
    for case in "ab":
        put(tmp_path / "pred" / f"{case}.nii.gz", BLOCK[::2, ::2, ::2].copy(), np.diag([2.0, 2.0, 2.0, 1.0]))
    (tmp_path / "cases.csv").write_text("case,subject,session\na,p,1\nb,p,2\nc,p,3\n")
    found = medseg.evaluate(
        tmp_path / "pred", tmp_path / "ref", cases=tmp_path / "cases.csv", protocol=QUICK, resample=True
    )
    assert len(found.sessions) == 2
    assert any(note.startswith("c: without a prediction") for note in found.notes)


def test_lesions_missed_without_doubt_are_bad():
    assert direction("silent_missed_share") == -1


def test_cases_may_be_called_image(tmp_path):
    for side in ("pred", "ref"):
        put(tmp_path / side / "image_1.nii.gz")
        put(tmp_path / side / "uncertainty.nii.gz")
    assert [pair.name for pair in pair_up(tmp_path / "pred", tmp_path / "ref").pairs] == ["image_1", "uncertainty"]


def test_the_folder_of_one_predicted_case_against_a_file(tmp_path):
    put(tmp_path / "a" / "segmentation.nii.gz")
    put(tmp_path / "a" / "uncertainty_entropy.nii.gz", np.full(BLOCK.shape, 0.25, np.float32))
    (tmp_path / "a" / "record.json").write_text("{}")
    put(tmp_path / "truth.nii.gz")
    found = medseg.evaluate(tmp_path / "a", tmp_path / "truth.nii.gz", protocol=QUICK)
    assert (found.exit_code, found.summary["label 1"]["dice"].mean) == (0, 1.0)


def test_a_folder_of_cases_against_one_file_is_paired_by_name(tmp_path):
    for case in "abc":
        put(tmp_path / "many" / f"{case}.nii.gz")
    one = put(tmp_path / "one" / "b.nii.gz")
    pairs = pair_up(tmp_path / "many", one)
    assert (pairs.pairs[0].pred.files[0].name, pairs.extra) == ("b.nii.gz", ("a", "c"))
    assert pair_up(one, tmp_path / "many").missing == ("a", "c")


def test_nnunet_probabilities_of_a_turned_prediction_are_left_out_and_told(tmp_path):
    put(tmp_path / "ref" / "a.nii.gz")
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0])
    mirrored[0, 3] = 11
    put(tmp_path / "pred" / "a.nii.gz", BLOCK[::-1].copy(), mirrored)
    sure = np.where(BLOCK[::-1] > 0, 0.9, 0.1)
    np.savez(tmp_path / "pred" / "a.npz", probabilities=np.stack([1 - sure, sure]).transpose(0, 3, 2, 1))
    found = medseg.evaluate(tmp_path / "pred", tmp_path / "ref", protocol=QUICK)
    assert "all structures" not in found.summary
    assert any("maps of certainty" in note and "grid" in note for note in found.notes)
    found = medseg.evaluate(tmp_path / "pred", tmp_path / "ref", protocol=QUICK, labels={"x": {"pred": 2, "ref": 1}})
    assert any("maps of certainty" in note and "values" in note for note in found.notes)


def test_probabilities_beside_another_format_are_found(tmp_path):
    item = LabelMap("a", (tmp_path / "a.nrrd",))
    (tmp_path / "a.npz").touch()
    assert maps_beside(item) == (None, tmp_path / "a.npz")


def test_a_wrong_folder_of_scans_is_told_before_the_work(tmp_path):
    put(tmp_path / "pred" / "a.nii.gz")
    with pytest.raises(InputError, match=r"MS-F101"):
        medseg.evaluate(tmp_path / "pred", tmp_path / "pred", tmp_path / "out", images=tmp_path / "none")
    assert not (tmp_path / "out").exists()


def test_predictions_are_never_written_over(tmp_path):
    put(tmp_path / "pred" / "a" / "segmentation.nii.gz")
    put(tmp_path / "ref" / "a.nii.gz")
    for name in ("record.json", "failures.csv"):
        (tmp_path / "pred" / name).write_text("{}")
    with pytest.raises(OutputError, match=r"MS-E301.*holds predictions"):
        medseg.evaluate(tmp_path / "pred", tmp_path / "ref", tmp_path / "pred", overwrite=True)
    assert (tmp_path / "pred" / "failures.csv").read_text() == "{}"


def test_a_structure_without_values_is_refused(tmp_path):
    put(tmp_path / "a.nii.gz")
    with pytest.raises(UsageError, match=r"MS-U160.*no values"):
        medseg.evaluate(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", protocol=QUICK, labels={"liver": []})


def test_values_far_apart_are_renumbered(tmp_path):
    put(tmp_path / "pred.nii.gz", BLOCK.astype(np.int32) * 1_000_000)
    put(tmp_path / "ref.nii.gz", BLOCK.astype(np.uint16) * 300)
    found = medseg.evaluate(
        tmp_path / "pred.nii.gz", tmp_path / "ref.nii.gz", protocol=QUICK, labels={"x": {"pred": 1_000_000, "ref": 300}}
    )
    assert (found.summary["x"]["dice"].mean, found.notes) == (1.0, ())


def test_maps_without_any_structure_are_told(tmp_path):
    put(tmp_path / "a.nii.gz", np.zeros_like(BLOCK))
    found = medseg.evaluate(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", protocol=QUICK)
    assert any("nothing to measure" in note for note in found.notes)


def test_structures_that_the_other_predictions_lack_are_told(tmp_path):
    put(tmp_path / "ref.nii.gz")
    put(tmp_path / "pred.nii.gz", BLOCK * 2)
    put(tmp_path / "other.nii.gz")
    found = medseg.evaluate(
        tmp_path / "pred.nii.gz", tmp_path / "ref.nii.gz", compare=tmp_path / "other.nii.gz", protocol=QUICK
    )
    assert "not compared, the other predictions have no such structure: label 2" in found.notes


def test_a_case_that_stands_twice_in_the_list_is_refused(tmp_path):
    (tmp_path / "cases.csv").write_text("case,site\na,x\nA,y\n")
    with pytest.raises(UsageError, match=r"MS-U163.*'A' stands twice"):
        people(tmp_path / "cases.csv", ("a",))
