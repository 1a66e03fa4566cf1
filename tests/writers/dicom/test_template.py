"""Sources as they come: other character sets, odd values, missing tags. Every one of them must give a valid object."""

from __future__ import annotations

import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement

import medseg
from medseg.writers.dicom import sources_of, write_dicom, write_dicom_seg
from medseg.writers.dicom.template import stand_in


def edited(folder, edit):
    for file in folder.iterdir():
        ds = pydicom.dcmread(file)
        edit(ds)
        ds.save_as(file)
    return folder


def test_an_odd_header_is_made_clean(tmp_path, lab):
    def edit(ds):
        ds.PatientSex = "FEMALE"
        ds["PatientBirthDate"]._value = "1970/01/01"
        del ds.PatientID, ds.StudyTime, ds.AccessionNumber, ds.ReferringPhysicianName
        ds.add_new(0x00290010, "LO", "VENDOR")
        ds.add_new(0x00291001, "LO", "private")

    image = medseg.read(edited(lab.series(tmp_path / "in", lab.affine_lps()), edit))
    header = stand_in(sources_of(image))
    assert (header.PatientSex, header.PatientBirthDate, header.PatientID, header.StudyTime) == ("", "", "", "")
    assert not any(e.tag.is_private for e in header)
    write_dicom_seg(tmp_path / "seg.dcm", lab.label_map(image), sources_of(image), lab.MAKER)
    assert lab.errors(tmp_path / "seg.dcm") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SeriesNumber", "three"),
        ("PatientID", "x" * 80),
        ("AccessionNumber", "a" * 30),
        ("PatientName", "A^B^C^D^E^F^G"),
        ("StudyInstanceUID", "1.2.003.1"),
        ("StudyDate", "2020.01.02"),
        ("StudyTime", "noon"),
        ("PatientWeight", "heavy"),
        ("Manufacturer", "m" * 100),
    ],
)
def test_values_that_break_the_standard_do_not_stop_the_results(tmp_path, lab, name, value):
    def edit(ds):
        tag = tag_for_keyword(name)
        ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value.encode(), 0, False, True)

    with disable_value_validation():
        folder = edited(lab.series(tmp_path / "in", lab.affine_lps()), edit)
    image = medseg.read(folder)
    labels = lab.label_map(image)
    rows = [{"structure": x.name, "value": x.value, "volume_ml": 1.0} for x in labels.labels]
    made = write_dicom(tmp_path / "out", labels, sources_of(image), bundle_name="b", bundle_version="1", rows=rows)
    assert [pydicom.dcmread(path).PatientSex for path in made] == ["O", "O"]


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Buc^Jérôme"),
        ("ISO_IR 144", "Люкceмбypг"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
    ],
)
def test_names_survive_in_utf_8(tmp_path, lab, charset, name):
    def edit(ds):
        ds.SpecificCharacterSet = charset
        ds.PatientName = name

    image = medseg.read(edited(lab.series(tmp_path / "in", lab.affine_lps()), edit))
    write_dicom_seg(tmp_path / "seg.dcm", lab.label_map(image), sources_of(image), lab.MAKER)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (seg.SpecificCharacterSet, str(seg.PatientName)) == ("ISO_IR 192", name)
    assert name.encode() in (tmp_path / "seg.dcm").read_bytes()
    assert lab.errors(tmp_path / "seg.dcm") == []


def test_lossy_sources_are_said_to_be(tmp_path, lab):
    tags = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "10",
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(), **tags))
    seg = write_dicom_seg(tmp_path / "seg.dcm", lab.label_map(image), sources_of(image), lab.MAKER)
    assert {name: str(seg[name].value) for name in tags} == tags
    assert lab.errors(tmp_path / "seg.dcm") == []
