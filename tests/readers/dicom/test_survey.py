"""The rows of `medseg inspect` for DICOM: one each, nothing raises."""

from __future__ import annotations

import pytest

from medseg.errors import MedsegError
from medseg.readers.dicom import read_one, survey_dicom
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
        ("ok: label map (SEG)", None, None, "dicom-seg", 1),
        ("refused", "MS-D122", None, "dicom-other", 1),
        ("refused", "MS-D101", None, "dicom", 1),
    ]
    first = found[0]
    assert (first.shape, first.spacing_mm, first.axcodes) == ((5, 7, 8), (3.0, 2.0, 5.0), "LPS")
    assert first.name == f"{tmp_path.name}_3"
    assert first.modality == "CT"
    assert "MS-D206" in {d.code for d in found[1].decisions}
    assert not any("SECRET" in repr(row).upper() for row in found)
    accepted = survey_dicom(tmp_path, ReadOptions(allow_gaps=True))
    assert accepted[2].verdict == "ok: interpolated over gaps"


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
