"""The rows of `medseg inspect` for DICOM: one each, nothing raises."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from medseg.errors import ChoiceError, MedsegError
from medseg.readers.dicom import read_dicom, read_one, survey_dicom
from medseg.readers.options import ReadOptions


def test_a_study_folder_row_by_row(tmp_path, phantom):
    phantom.write_stack(tmp_path / "a", phantom.stack())
    phantom.write_stack(tmp_path / "b", phantom.stack(tilt_deg=15), SeriesNumber=4, SeriesInstanceUID="1.4")
    phantom.write_stack(tmp_path / "c", phantom.stack(), skip=(2,), SeriesNumber=5, SeriesInstanceUID="1.5")
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesNumber": 6, "SeriesInstanceUID": "1.6"}
    phantom.write_stack(tmp_path / "d", phantom.stack(n=1), **scout)
    phantom.write_stack(
        tmp_path / "e", phantom.stack(n=1), SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", SeriesInstanceUID="1.7"
    )
    (tmp_path / "bad.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0UL")
    (tmp_path / "notes.txt").write_text("no", encoding="utf-8")
    found = survey_dicom(tmp_path)
    rows = [(row.verdict, row.code, row.series, row.format, row.files) for row in found]
    assert rows == [
        ("ok", None, "3", "dicom", 8),
        ("ok: resampled from 15.0 degrees of tilt", None, "4", "dicom", 8),
        ("refused", "MS-D104", "5", "dicom", 7),
        ("refused", "MS-D301", None, "dicom-seg", 1),
        ("refused", "MS-D122", None, "dicom-other", 1),
        ("refused", "MS-D101", None, "dicom", 1),
    ]
    first = found[0]
    assert (first.shape, first.spacing_mm, first.axcodes) == ((5, 7, 8), (3.0, 2.0, 5.0), "LPS")
    assert first.name == f"{tmp_path.name}_3"
    assert first.modality == "CT"
    assert "MS-D206" in {d.code for d in found[1].decisions}
    assert not any("SECRET" in repr(row).upper() for row in found)
    assert survey_dicom(tmp_path, ReadOptions(series="4")) == [found[1]]
    with pytest.raises(ChoiceError, match="MS-D131"):
        survey_dicom(tmp_path, ReadOptions(series="44"))
    accepted = survey_dicom(tmp_path, ReadOptions(allow_gaps=True))
    assert accepted[2].verdict == "ok: interpolated over gaps"


def test_the_verdict_on_a_label_map_is_that_of_reading_it(data):
    folder = data("dicom") / "dev" / "highdicom_test_files"
    for row in survey_dicom(folder):
        if row.format != "dicom-seg":
            continue
        if row.refused:
            with pytest.raises(MedsegError) as caught:
                read_one(row.path)
            assert row.code == caught.value.code
        else:
            assert row.shape == read_one(row.path).array.shape


def test_a_folder_of_label_maps_alone_is_read(data, tmp_path):
    source = data("dicom") / "dev" / "dcmqi" / "segmentations"
    shutil.copy(source / "24x38x3" / "seg" / "label.seg", tmp_path)
    volume = read_one(tmp_path)
    assert volume.source.format == "dicom-seg"
    np.testing.assert_array_equal(volume.array, read_dicom(tmp_path)[0].array)
    shutil.copy(source / "liver.dcm", tmp_path)
    assert len(read_dicom(tmp_path)) == 2
    with pytest.raises(ChoiceError, match=r"2 segmentations.*\n.*label\.seg") as caught:
        read_one(tmp_path)
    assert caught.value.code == "MS-D130"


def test_a_structure_set_without_its_image_is_refused_from_every_side():
    file = Path(get_testdata_file("rtstruct.dcm", download=False) or "")
    (row,) = survey_dicom(file)
    assert row.code == "MS-D321"
    assert row.refused


def test_survey_and_reading_agree_on_every_real_folder(data):
    for folder in sorted((data("dicom") / "dev").iterdir()):
        rows = [row for row in survey_dicom(folder) if row.format == "dicom" and row.path.is_dir()]
        if len(rows) != 1 or not folder.is_dir():
            continue
        if rows[0].refused:
            with pytest.raises(MedsegError) as caught:
                read_one(folder)
            assert rows[0].code == caught.value.code
            continue
        volume = read_one(folder)
        assert rows[0].verdict.startswith("ok")
        assert rows[0].decisions == volume.source.decisions
        if rows[0].verdict == "ok":
            assert rows[0].shape == volume.array.shape
            assert rows[0].spacing_mm == volume.spacing_mm
