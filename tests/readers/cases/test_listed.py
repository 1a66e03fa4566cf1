"""Lists and dataset.json, entry by entry."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import InputError
from medseg.readers.cases import survey_input
from medseg.readers.open import survey


@pytest.fixture
def scans(tmp_path):
    for name in ("a_T1", "a_FLAIR", "a_seg"):
        image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
        image.set_qform(image.affine, 1)
        nib.save(image, tmp_path / f"{name}.nii.gz")
    return tmp_path


def verdicts(rows):
    return [(row.name, row.code) for row in rows]


def test_every_channel_label_and_missing_file_of_a_csv_has_a_row(scans):
    (scans / "list.csv").write_text(
        "name;T1;FLAIR;label;age\na;a_T1.nii.gz;a_FLAIR.nii.gz;a_seg.nii.gz;71\nb;a_T1.nii.gz;lost.nii.gz;;60\n",
        encoding="utf-8",
    )
    rows = survey_input(scans / "list.csv")
    assert verdicts(rows) == [("a_T1", None), ("a_FLAIR", None), ("a_seg", None), ("lost", "MS-F101")]
    assert rows[0].shape == (4, 5, 6)


def test_json_lists_and_msd_datasets(scans):
    (scans / "list.json").write_text(json.dumps([{"image": ["a_T1.nii.gz", "a_FLAIR.nii.gz"]}]), encoding="utf-8")
    assert verdicts(survey_input(scans / "list.json")) == [("a_T1", None), ("a_FLAIR", None)]
    msd = {"training": [{"image": "./a_T1.nii.gz", "label": "./a_seg.nii.gz"}], "test": ["./a_FLAIR.nii.gz"]}
    (scans / "dataset.json").write_text(json.dumps(msd), encoding="utf-8")
    assert verdicts(survey_input(scans / "dataset.json")) == [("a_T1", None), ("a_seg", None), ("a_FLAIR", None)]


def test_an_nnunet_dataset_is_its_folder(scans):
    (scans / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1"}, "numTraining": 1}), encoding="utf-8")
    assert verdicts(survey_input(scans / "dataset.json")) == verdicts(survey(scans))


def test_a_broken_list_is_refused_and_an_image_is_itself(scans):
    (scans / "list.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="MS-C103"):
        survey_input(scans / "list.json")
    assert survey_input(scans / "a_T1.nii.gz") == survey(scans / "a_T1.nii.gz")
