"""Objects made from de-identified sources: nothing of the patient in any byte, and still valid, placed and linked."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

import medseg
from medseg.readers.dicom import read_one
from medseg.writers.dicom import Deidentifier, deidentified, sources_of, write_dicom
from medseg.writers.dicom.sources import read_sources

BY = Deidentifier(b"s" * 32)
ROOT = "1.2.276.0.7230010.3.99"
#: What the source says, each in a place that highdicom or medseg could take it from.
PLANTED = {
    "PatientName": "Quarz^Wilhelmine", "PatientID": "QZ-4711-0815", "PatientBirthDate": "19310417", "PatientAge": "093Y",
    "OtherPatientIDs": "QOTHER77", "PatientComments": "neighbour of Quendolin", "PatientAddress": "Quellweg 9",
    "EthnicGroup": "Quechua", "Occupation": "Quarrier", "AdditionalPatientHistory": "qhistory text", "AccessionNumber": "QACC123",
    "StudyID": "QST5", "StudyDate": "20190823", "StudyTime": "112233", "SeriesDate": "20190824", "SeriesTime": "223344",
    "AcquisitionDate": "20190825", "ContentDate": "20190826", "StudyDescription": "qstudy knee of W.",
    "SeriesDescription": "qseries desc", "ProtocolName": "qprotocol", "InstitutionName": "Qlinikum Nord",
    "InstitutionAddress": "Quai 1", "InstitutionalDepartmentName": "Qadiology", "StationName": "QSTATION1",
    "DeviceSerialNumber": "QSERIAL9", "ManufacturerModelName": "qmodel of this site", "ReferringPhysicianName": "Quast^Dr",
    "PerformingPhysicianName": "Quinn^P", "OperatorsName": "Queck^O", "NameOfPhysiciansReadingStudy": "Quist^R",
    "PositionReferenceIndicator": "QNASION", "StudyInstanceUID": f"{ROOT}.1", "SeriesInstanceUID": f"{ROOT}.2",
    "FrameOfReferenceUID": f"{ROOT}.3", "BodyPartExamined": "QKNEE", "ImageComments": "qcomment",
}  # fmt: skip


@pytest.fixture
def planted(tmp_path, lab):
    """A folder of slices that say everything of `PLANTED`, and private tags."""
    folder = lab.series(tmp_path / "in", lab.affine_lps(2), **PLANTED)
    for n, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.4.{n}"
        dataset.private_block(0x0011, "QPRIVATE CREATOR", create=True).add_new(0x01, "LO", "Qprivate value")
        dataset.save_as(path)
    return folder


def objects(folder, out, lab, by=BY, kind="binary"):
    image = read_one(folder)
    labels = lab.label_map(image)
    sources = sources_of(image)
    entropy = np.full(labels.array.shape, 0.25, np.float32)
    rows = [{"structure": x.name, "value": x.value, "voxels": 3, "volume_ml": 1.5, "flags": ""} for x in labels.labels]
    made = write_dicom(
        out, labels, deidentified(sources, by) if by else sources, bundle_name="toy", bundle_version="1",
        maps={"entropy": entropy, "mutual_information": entropy}, rows=rows, kind=kind,
    )  # fmt: skip
    return made, labels


def words() -> list[str]:
    """Every planted value, names in their parts, and the root of every UID."""
    plain = [v for k, v in PLANTED.items() if not k.endswith("UID")]
    return [*(part for v in plain for part in v.split("^") if len(part) > 2), ROOT, "QPRIVATE", "Qprivate"]


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_no_byte_of_any_object_tells_of_the_patient(planted, tmp_path, lab, kind):
    made, _ = objects(planted, tmp_path / "out", lab, kind=kind)
    assert len(made) == 4
    for path in made:
        data = path.read_bytes()
        assert [w for w in words() if w.encode() in data] == []


def test_without_it_the_same_search_finds_what_a_pacs_needs(planted, tmp_path, lab):
    made, _ = objects(planted, tmp_path / "out", lab, by=None)
    found = {w for path in made for w in words() if w.encode() in path.read_bytes()}
    assert {"Quarz", "Wilhelmine", "QZ-4711-0815", "19310417", "QACC123", "Quast", ROOT, "Qlinikum Nord"} <= found


def test_they_are_valid_dicom_and_say_that_they_are_de_identified(planted, tmp_path, lab):
    made, _ = objects(planted, tmp_path / "out", lab)
    assert [lab.errors(path) for path in made] == [[], [], [], []]
    for path in made:
        dataset = pydicom.dcmread(path)
        assert dataset.PatientIdentityRemoved == "YES"
        assert dataset.DeidentificationMethod
        said = [(c.CodeValue, c.CodingSchemeDesignator) for c in dataset.DeidentificationMethodCodeSequence]
        assert said == [("113100", "DCM"), ("113104", "DCM"), ("113105", "DCM")]
        assert dataset.LongitudinalTemporalInformationModified == "REMOVED"


def elements(dataset: Dataset):
    for element in dataset:
        yield element
        for item in element.value if isinstance(element.value, Sequence) else ():
            yield from elements(item)


#: PS3.15 table E.1-1, basic profile: what becomes of attributes that derived objects may hold.
EMPTY_OR_DUMMY = (
    "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "ContentCreatorName", "PositionReferenceIndicator",
)  # fmt: skip
REMOVED = (
    "ContributingEquipmentSequence", "ContributionDateTime", "InstanceCreationDate", "InstanceCreationTime", "PatientAge",
    "PatientComments", "OtherPatientIDs", "EthnicGroup", "Occupation", "AdditionalPatientHistory", "StudyDescription",
    "InstitutionName", "StationName", "OperatorsName", "SeriesDate", "SeriesTime", "PatientAddress", "ProtocolName",
    "PersonName", "AuthorObserverSequence", "VerifyingObserverSequence", "ImageComments",
)  # fmt: skip


def test_every_attribute_is_treated_as_the_basic_profile_says(planted, tmp_path, lab):
    made, _ = objects(planted, tmp_path / "out", lab)
    originals = {f"{ROOT}.{n}" for n in (1, 2, 3)} | {f"{ROOT}.4.{n}" for n in range(7)}
    for path in made:
        dataset = pydicom.dcmread(path)
        for element in elements(dataset):
            assert element.keyword not in REMOVED, element
            assert not element.tag.is_private
            if element.keyword in EMPTY_OR_DUMMY:
                assert not element.value, element
            if element.VR in ("DA", "DT", "TM") and element.value:
                assert str(element.value) in ("19000101", "000000", "000000.000000"), element
            if element.VR == "UI":
                assert str(element.value) not in originals
        assert str(dataset.PatientName) == dataset.PatientID == BY.patient("QZ-4711-0815")


def test_objects_of_a_case_still_name_each_other_and_one_study(planted, tmp_path, lab):
    made, _ = objects(planted, tmp_path / "out", lab)
    seg, entropy, information, report = (pydicom.dcmread(path) for path in made)
    assert {d.StudyInstanceUID for d in (seg, entropy, information, report)} == {BY.uid(f"{ROOT}.1")}
    assert {d.FrameOfReferenceUID for d in (seg, entropy, information)} == {BY.uid(f"{ROOT}.3")}
    named = {i.ReferencedSOPInstanceUID for i in seg.SourceImageSequence}
    assert named == {BY.uid(f"{ROOT}.4.{n}") for n in range(7)}
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    uids = {i.ReferencedSOPInstanceUID for s in evidence for i in s.ReferencedSOPSequence}
    assert uids == named | {seg.SOPInstanceUID}


def test_what_was_segmented_stays_in_its_place(planted, tmp_path, lab):
    made, labels = objects(planted, tmp_path / "out", lab)
    back = medseg.read(made[0])
    for value in (1, 2, 3):
        assert (back.array == value).sum() == (labels.array == value).sum()
        assert np.allclose(
            lab.centroid_mm(back.array == value, back.affine), lab.centroid_mm(labels.array == value, labels.affine)
        )


def test_the_secret_decides_and_patients_stay_together(planted, tmp_path, lab):
    first, _ = objects(planted, tmp_path / "a", lab)
    again, _ = objects(planted, tmp_path / "b", lab)
    other, _ = objects(planted, tmp_path / "c", lab, by=Deidentifier(b"t" * 32))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    a, c = pydicom.dcmread(first[0]), pydicom.dcmread(other[0])
    assert a.PatientID != c.PatientID
    assert a.StudyInstanceUID != c.StudyInstanceUID
    assert BY.patient(" QZ-4711-0815 ") == BY.patient("QZ-4711-0815") != BY.patient("QZ-4711-0816")
    assert BY.uid(f"{ROOT}.1") != BY.uid(f"{ROOT}.2")
    assert all(len(BY.uid(f"{ROOT}.{n}")) <= 64 for n in range(50))


def test_without_a_patient_id_a_study_is_one_patient(tmp_path, lab):
    files = sorted(lab.series(tmp_path / "in", lab.affine_lps(), PatientID="").iterdir())
    sources = read_sources(files)
    assert deidentified(sources, BY).header.PatientID == BY.patient("1.2.3.1")


def test_only_known_body_parts_and_sides_are_kept(tmp_path, lab):
    files = sorted(lab.series(tmp_path / "in", lab.affine_lps(), BodyPartExamined="ABDOMEN", Laterality="L").iterdir())
    header = deidentified(read_sources(files), BY).header
    assert (header.BodyPartExamined, header.ImageLaterality) == ("ABDOMEN", "L")
    assert {e.keyword for e in header} == {
        "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "Modality",
        "SeriesNumber", "PatientID", "PatientName", "BodyPartExamined", "ImageLaterality",
    }  # fmt: skip
