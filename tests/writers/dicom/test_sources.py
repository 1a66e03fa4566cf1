from __future__ import annotations

import numpy as np
import pydicom
import pytest

import medseg
from medseg.errors import InputError, UsageError
from medseg.volume import Source, Volume
from medseg.writers.dicom import sources_of
from medseg.writers.dicom.sources import REQUIRED, read_sources


@pytest.fixture
def dev(data):
    return data("dicom") / "dev"


def test_the_slices_of_a_series(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(1)))
    sources = sources_of(image)
    assert [s.sop_uid for s in sources.instances] == [pydicom.dcmread(f).SOPInstanceUID for f in image.source.files]
    assert [(f.instance, f.number, f.shape) for f in sources.frames] == [(k, None, (14, 11)) for k in range(7)]
    assert list(sources.by_series) == ["1.2.3.2"]
    assert sources.modality == "MR"


def test_datasets_do_as_well_as_files(tmp_path, lab):
    folder = lab.series(tmp_path / "in", lab.affine_lps(1))
    files = sorted(folder.iterdir())
    a, b = read_sources(files), read_sources([pydicom.dcmread(f) for f in files])
    assert a.instances == b.instances
    np.testing.assert_array_equal([f.position for f in a.frames], [f.position for f in b.frames])


def test_an_uid_that_only_the_file_meta_has_is_found(tmp_path, lab):
    folder = lab.series(tmp_path / "in", lab.affine_lps(), shape=(4, 5, 2))
    for file in folder.iterdir():
        ds = pydicom.dcmread(file)
        del ds.SOPInstanceUID
        ds.save_as(file)
    assert [s.sop_uid for s in read_sources(sorted(folder.iterdir())).instances] == ["1.2.3.4.1", "1.2.3.4.2"]


@pytest.mark.parametrize("name", [n for n in REQUIRED if not n.startswith("SOP")])
def test_a_source_without_an_uid_is_refused_by_name(tmp_path, lab, name):
    files = sorted(lab.series(tmp_path / "in", lab.affine_lps(), shape=(4, 5, 2)).iterdir())
    ds = pydicom.dcmread(files[1])
    delattr(ds, name)
    ds.save_as(files[1])
    with pytest.raises(InputError, match=rf"MS-D402.*IM001: this source image has no {name},"):
        read_sources(files)


@pytest.mark.parametrize("name", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_sources_of_two_studies_or_spaces_are_refused(tmp_path, lab, name):
    files = sorted(lab.series(tmp_path / "in", lab.affine_lps(), shape=(4, 5, 3)).iterdir())
    ds = pydicom.dcmread(files[2])
    setattr(ds, name, "1.9.9")
    ds.save_as(files[2])
    with pytest.raises(InputError, match=rf"MS-D403.*do not share one {name}: 1\.2\.3\.. and 1\.9\.9"):
        read_sources(files)


def test_what_was_not_read_from_dicom_has_no_sources():
    volume = Volume(np.zeros((2, 3, 4)), np.eye(4), Source(format="nifti"))
    with pytest.raises(UsageError, match=r"MS-D401.*'nifti'"):
        sources_of(volume)


def test_a_damaged_source_is_an_error_of_ours(tmp_path, lab):
    files = sorted(lab.series(tmp_path / "in", lab.affine_lps(), shape=(4, 5, 2)).iterdir())
    ds = pydicom.dcmread(files[1])
    ds.ImagePositionPatient = ["1", "2", "3"]
    ds["ImagePositionPatient"]._value = ["a", "b", "c"]
    with pytest.raises(InputError, match=r"MS-D404.*cannot be parsed"):
        read_sources([files[0], ds])


def test_of_an_enhanced_file_only_the_frames_of_the_volume(dev):
    volumes = [v for v in medseg.read_all(dev / "mr_enhanced_multiframe_siemens_xa10") if v.source.format == "dicom"]
    assert len(volumes) > 1
    for volume in volumes:
        sources = sources_of(volume)
        (frames,) = volume.source.details["frames"]
        assert sorted(f.number for f in sources.frames) == sorted(frames)
        assert len(frames) == volume.array.shape[2]
        at = {f.number: f.position for f in sources.frames}
        lps = volume.grid.to_world([(0, 0, k) for k in range(len(frames))]) * [-1, -1, 1]
        np.testing.assert_allclose([at[n] for n in frames], lps, atol=1e-3)


def test_a_mosaic_has_no_frames_that_could_be_named(dev):
    volume = medseg.read_all(dev / "mr_mosaic_siemens_AP_3")[0]
    sources = sources_of(volume)
    assert (len(sources.instances), sources.frames) == (1, ())
