"""Whose a scan is, from DICOM headers and dcm2niix's JSON; and that a PatientID comes out as nothing but a hash."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medseg.training.patients import patients, pseudonyms, same_patients

SALT = bytes(range(32))


def slice_of(folder, patient, n=0):
    """A DICOM file without pixels; `patient` None has no PatientID at all."""
    folder.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, "1.2.840.10008.5.1.4.1.1.4"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(str(folder / f"{n}.dcm"), {}, file_meta=meta, preamble=bytes(128))
    file.Modality, file.PatientName = "MR", "Doe^Jane"
    if patient is not None:
        file.PatientID = patient
    file.save_as(folder / f"{n}.dcm", enforce_file_format=True)
    return folder


def nifti(folder, name, said=None, json_name=None):
    """An image's file (its bytes are never looked at), and the JSON beside it."""
    path = folder / f"{name}.nii.gz"
    path.write_bytes(b"a scan")
    if said is not None:
        text = said if isinstance(said, str) else json.dumps(said)
        (folder / f"{json_name or name}.json").write_text(text, encoding="utf-8")
    return (path,)


def test_dicom_series_and_sidecars_of_one_patient_are_found(tmp_path):
    images = {
        "a": (slice_of(tmp_path / "a", "HOSP-0815"),),
        "b": nifti(tmp_path, "b", {"PatientID": "HOSP-0815 ", "Modality": "MR"}),
        "c": (slice_of(tmp_path / "c", "HOSP-0816") / "0.dcm",),
        "d": nifti(tmp_path, "d_0000", {"PatientID": "HOSP-0816"}, json_name="d"),
        "e": nifti(tmp_path, "e", {"PatientID": 815}),
    }
    (tmp_path / "a" / "0.txt").write_text("notes", encoding="utf-8")  # before the slices, by name
    assert patients(images) == {"a": "HOSP-0815", "b": "HOSP-0815", "c": "HOSP-0816", "d": "HOSP-0816", "e": "815"}
    assert same_patients(images) == {"a": "a", "b": "a", "c": "c", "d": "c", "e": "e"}


def test_what_says_nothing_is_no_subject(tmp_path):
    (tmp_path / "empty").mkdir()
    images = {
        "none": nifti(tmp_path, "none"),
        "blank": nifti(tmp_path, "blank", {"PatientID": "  "}),
        "anonymised": nifti(tmp_path, "anonymised", {"PatientID": "ANONYMIZED"}),
        "without": nifti(tmp_path, "without", {"Modality": "MR"}),
        "a list": nifti(tmp_path, "list", [1, 2]),
        "broken": nifti(tmp_path, "broken", '{"PatientID": '),
        "true": nifti(tmp_path, "true", {"PatientID": {"Value": ["x"]}}),
        "no tag": (slice_of(tmp_path / "no", None),),
        "no file": (tmp_path / "absent.nii.gz",),
        "no slice": (tmp_path / "empty",),
        "one": nifti(tmp_path, "one", {"PatientID": "X1"}),
    }
    assert patients(images) == {"one": "X1"}


def test_one_id_in_every_case_is_an_anonymisers_and_is_said_to_be_unused(tmp_path, caplog):
    images = {name: nifti(tmp_path, name, {"PatientID": "STUDY7"}) for name in "abc"}
    assert patients(images) == {}
    assert "all 3 cases carry one and the same PatientID" in caplog.text
    assert "STUDY7" not in caplog.text
    caplog.clear()
    images["d"] = nifti(tmp_path, "d")  # it is not in every case: then it means somebody
    assert set(patients(images)) == {"a", "b", "c"}
    assert patients({"a": images["a"]}) == {"a": "STUDY7"}
    assert not caplog.records


def test_a_pseudonym_is_the_hmac_of_rfc_2104(tmp_path):
    images = {name: nifti(tmp_path, name, {"PatientID": who}) for name, who in (("a", "77"), ("b", "78"), ("c", "77"))}
    subjects = {"a": "a", "b": "b", "c": "a", "sub-1_ses-1": "sub-1"}
    found = pseudonyms(images, subjects, SALT)
    inner = hashlib.sha256(bytes(k ^ 0x36 for k in SALT.ljust(64, b"\0")) + b"77").digest()  # the RFC, step by step
    digest = hashlib.sha256(bytes(k ^ 0x5C for k in SALT.ljust(64, b"\0")) + inner).hexdigest()
    assert found["a"] == f"patient-{digest[:16]}"
    assert found["c"] == found["a"] != found["b"]
    assert found["sub-1_ses-1"] == "sub-1"
    assert pseudonyms(images, subjects, SALT[::-1])["a"] != found["a"]


@given(ids=st.lists(st.text("0123456789", min_size=2, max_size=4), min_size=1, max_size=8))
def test_equal_pseudonyms_mean_equal_ids(ids, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ids")
    images = {f"c{n}": nifti(folder, f"c{n}", {"PatientID": one}) for n, one in enumerate(ids)}
    first = same_patients(images)
    found = pseudonyms(images, {name: first.get(name, name) for name in images}, SALT)
    wanted = len(ids) == 1 or len(set(ids)) > 1 or len(images) == 1
    for n, one in enumerate(ids):
        for m, other in enumerate(ids):
            assert (found[f"c{n}"] == found[f"c{m}"]) == ((one == other) if wanted else n == m)
