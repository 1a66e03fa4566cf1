from __future__ import annotations

from dataclasses import replace

import pydicom
import pytest
from highdicom.sr import Comprehensive3DSR

import medseg
from medseg.errors import OutputError
from medseg.labels import LabelTable
from medseg.writers.dicom import measurements as module
from medseg.writers.dicom import sources_of, write_dicom_seg, write_measurements

FULL = {
    "volume_ml": 12.3456789,
    "voxels": 61,
    "volume_sd_ml": 0.25,
    "entropy_inside": 0.125,
    "entropy_boundary": 0.5,
    "agreement": 0.75,
    "predicted_dice": 0.875,
    "flags": "touches the edge of the image; outside the training range of volume",
    "outside_domain": "no",
}


def rows(table):
    first, second, third = table
    return [
        {"structure": first.name, "value": first.value, **FULL},
        {"structure": second.name, "value": second.value, "voxels": 3, "volume_ml": 0.5, "flags": ""},
        {
            "structure": third.name,
            "value": third.value,
            **dict.fromkeys(FULL, ""),
            "voxels": 0,
            "volume_ml": 0.0,
            "predicted_dice": float("nan"),
        },
    ]


@pytest.fixture
def case(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(2)))
    labels, sources = lab.label_map(image), sources_of(image)
    return labels, sources, write_dicom_seg(tmp_path / "seg.dcm", labels, sources, lab.MAKER)


def test_dcmqi_reads_every_number_with_its_segment(tmp_path, lab, case):
    labels, sources, seg = case
    write_measurements(tmp_path / "sr.dcm", rows(lab.TABLE), labels, sources, lab.MAKER, seg=seg)
    found = lab.report(tmp_path / "sr.dcm", tmp_path / "out")
    assert found["CompletionFlag"] == "COMPLETE"
    groups = found["Measurements"]
    assert [g["ReferencedSegment"] for g in groups] == [1, 2, 3]
    assert {g["segmentationSOPInstanceUID"] for g in groups} == {seg.SOPInstanceUID}
    assert {g["SourceSeriesForImageSegmentation"] for g in groups} == {"1.2.3.2"}
    told = [
        {
            (i["quantity"]["CodeMeaning"], i["units"]["CodeValue"], "derivationModifier" in i): float(i["value"])
            for i in g["measurementItems"]
        }
        for g in groups
    ]
    assert told == [
        {
            ("Volume", "mL", False): 12.3456789,
            ("Volume", "mL", True): 0.25,
            ("Number of voxels", "1", False): 61.0,
            ("Mean predictive entropy inside", "1", False): 0.125,
            ("Mean predictive entropy at the boundary", "1", False): 0.5,
            ("Dice agreement between samples", "1", False): 0.75,
            ("Predicted Dice coefficient", "1", False): 0.875,
        },
        {("Volume", "mL", False): 0.5, ("Number of voxels", "1", False): 3.0},
        {("Volume", "mL", False): 0.0, ("Number of voxels", "1", False): 0.0},
    ]
    for group, segment in zip(groups, seg.SegmentSequence, strict=True):
        assert group["TrackingUniqueIdentifier"] == segment.TrackingUID
        assert group["Finding"]["CodeMeaning"] == segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning


def test_no_error_in_dciodvfy(tmp_path, lab, case):
    labels, sources, seg = case
    maker = replace(lab.MAKER, warning="OUTSIDE TRAINING DOMAIN")
    write_measurements(tmp_path / "sr.dcm", rows(lab.TABLE), labels, sources, maker, seg=seg)
    assert lab.errors(tmp_path / "sr.dcm") == []


def test_side_and_part_are_the_finding_site(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(2)))
    table = LabelTable.from_json(
        [
            {"value": 1, "name": "a", "type": ["SCT", "64033007", "Kidney"], "modifier": ["SCT", "7771000", "Left"]},
            {
                "value": 2,
                "name": "b",
                "type": ["SCT", "5366008", "Hippocampus"],
                "modifier": ["SCT", "255549009", "Anterior"],
            },
            {"value": 3, "name": "c", "type": ["SCT", "10200004", "Liver"]},
        ]
    )
    labels, sources = lab.label_map(image, table=table), sources_of(image)
    seg = write_dicom_seg(tmp_path / "seg.dcm", labels, sources, lab.MAKER)
    write_measurements(tmp_path / "sr.dcm", rows(table), labels, sources, lab.MAKER, seg=seg)
    assert lab.errors(tmp_path / "sr.dcm") == []
    report = Comprehensive3DSR.from_dataset(pydicom.dcmread(tmp_path / "sr.dcm"))
    told = []
    for group in report.content.get_volumetric_roi_measurement_groups():
        for site in group.finding_sites or [None]:
            parts = (site, site.laterality, site.topographical_modifier) if site else ()
            told.append([part and (part.value if part is site else part).meaning for part in parts])
    assert told == [["Kidney", "Left", None], ["Hippocampus", None, "Anterior"], []]


def test_flags_and_the_warning_are_comments(tmp_path, lab, case):
    labels, sources, seg = case
    maker = replace(lab.MAKER, warning="OUTSIDE TRAINING DOMAIN")
    write_measurements(tmp_path / "sr.dcm", rows(lab.TABLE), labels, sources, maker, seg=seg)
    report = pydicom.dcmread(tmp_path / "sr.dcm")
    assert report.SeriesDescription == "Measurements, OUTSIDE TRAINING DOMAIN"
    texts = [item.TextValue for item in items(report) if item.ValueType == "TEXT" and "Comment" in name(item)]
    assert texts == ["OUTSIDE TRAINING DOMAIN", FULL["flags"], "OUTSIDE TRAINING DOMAIN", "OUTSIDE TRAINING DOMAIN"]


def test_the_sources_and_the_segmentation_are_its_evidence(tmp_path, lab, case):
    labels, sources, seg = case
    made = write_measurements(tmp_path / "sr.dcm", rows(lab.TABLE), labels, sources, lab.MAKER, seg=seg)
    (study,) = made.CurrentRequestedProcedureEvidenceSequence
    told = {i.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for i in s.ReferencedSOPSequence}
    assert told == {s.sop_uid for s in sources.instances} | {seg.SOPInstanceUID}
    assert (str(made.PatientName), made.StudyInstanceUID) == ("Müller^Jörg", "1.2.3.1")


def test_the_same_run_gives_the_same_bytes_and_another_number_another_uid(tmp_path, lab, case):
    labels, sources, seg = case
    for n in (1, 2):
        made = write_measurements(tmp_path / f"{n}.dcm", rows(lab.TABLE), labels, sources, lab.MAKER, seg=seg)
    assert (tmp_path / "1.dcm").read_bytes() == (tmp_path / "2.dcm").read_bytes()
    changed = rows(lab.TABLE)
    changed[0]["volume_ml"] = 12.4
    other = write_measurements(tmp_path / "3.dcm", changed, labels, sources, lab.MAKER, seg=seg)
    assert other.SOPInstanceUID != made.SOPInstanceUID


def test_a_label_map_is_referred_to_by_its_own_values(tmp_path, lab, case):
    labels, sources, _ = case
    seg = write_dicom_seg(tmp_path / "map.dcm", labels, sources, lab.MAKER, kind="labelmap")
    write_measurements(tmp_path / "sr.dcm", rows(lab.TABLE), labels, sources, lab.MAKER, seg=seg, kind="labelmap")
    found = lab.report(tmp_path / "sr.dcm", tmp_path / "out")
    assert [g["ReferencedSegment"] for g in found["Measurements"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [({"value": 9}, "structures that the label map does not have"), ({"volume_ml": float("inf")}, "is infinite")],
)
def test_rows_that_cannot_be_right_are_a_mistake_of_the_caller(tmp_path, lab, case, change, words):
    labels, sources, seg = case
    wrong = rows(lab.TABLE)
    wrong[1].update(change)
    with pytest.raises(ValueError, match=words):
        write_measurements(tmp_path / "sr.dcm", wrong, labels, sources, lab.MAKER, seg=seg)


def test_what_reads_back_otherwise_is_not_kept(tmp_path, lab, case, monkeypatch):
    labels, sources, seg = case
    settle = module.settle

    def spoiled(report, *args):
        settle(report, *args)
        number = next(item for item in items(report) if item.ValueType == "NUM")
        number.MeasuredValueSequence[0].NumericValue = number.MeasuredValueSequence[0].FloatingPointValue = 99.0

    monkeypatch.setattr(module, "settle", spoiled)
    with pytest.raises(OutputError, match=r"MS-O401.*the numbers of 'Right kidney' differ"):
        write_measurements(tmp_path / "o" / "sr.dcm", rows(lab.TABLE), labels, sources, lab.MAKER, seg=seg)
    assert list((tmp_path / "o").iterdir()) == []


def items(node):
    for item in node.get("ContentSequence") or ():
        yield item
        yield from items(item)


def name(item):
    return item.ConceptNameCodeSequence[0].CodeMeaning
