"""`check_cases`: every case judged by headers, with the refusal that reading it would give."""

from __future__ import annotations

import gzip
import os
import sys

import numpy as np
import pytest

from medseg.errors import InputError, MedsegError, MemoryLimitError
from medseg.readers.cases import check_cases, find_cases, load_case
from medseg.readers.cases.headers import check_image
from medseg.readers.options import ReadOptions
from medseg.readers.payload import require_whole
from medseg.writers.nifti import write_nifti
from tests.readers.dicom.conftest import stack, write_stack

AFFINE = np.diag([-1.0, 1.5, 2.0, 1.0])


@pytest.fixture
def scans(tmp_path):
    """A folder of four scans, a to d, 6 x 7 x 8."""
    for name in "abcd":
        array = np.random.default_rng(0).integers(0, 900, (6, 7, 8)).astype(np.int16)
        write_nifti(tmp_path / "scans" / f"{name}.nii.gz", array, AFFINE)
    return tmp_path / "scans"


def codes(folder, channels=(), options=None):
    found = check_cases(find_cases(folder, channels=channels, options=options), channels)
    for case in found:
        if case.error is not None:
            with pytest.raises(MedsegError) as caught:
                load_case(case, channels)
            assert caught.value is case.error
    return {case.name: case.error and case.error.code for case in found}


def test_sound_cases_stay_as_they_are(scans):
    cases = find_cases(scans)
    assert check_cases(cases) == cases


def test_each_bad_one_by_its_own_code(scans):
    whole = (scans / "a.nii.gz").read_bytes()
    (scans / "b.nii.gz").write_bytes(whole[:-9])
    (scans / "c.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (scans / "d.nii.gz").write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))
    assert codes(scans) == {"a": None, "b": "MS-F120", "c": "MS-F105", "d": "MS-F120"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes as on POSIX")
def test_a_pipe_is_not_opened(scans):
    (scans / "b.nii.gz").unlink()
    os.mkfifo(scans / "b.nii.gz")
    assert codes(scans) == {"a": None, "b": "MS-F103", "c": None, "d": None}


def test_limits_hold(scans):
    assert set(codes(scans, options=ReadOptions(max_voxels=6 * 7 * 8)).values()) == {None}
    assert set(codes(scans, options=ReadOptions(max_voxels=6 * 7 * 8 - 1)).values()) == {"MS-F113"}


def test_what_does_not_fit_into_memory(scans, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Free", (), {"available": 600}))
    (case, *_) = check_cases(find_cases(scans))
    assert isinstance(case.error, MemoryLimitError)


def test_channels_are_counted(scans, tmp_path):
    array = np.zeros((2, 6, 7, 8), np.int16)
    array[:, 2, 2, 2] = 1
    write_nifti(tmp_path / "more" / "a.nii.gz", array, AFFINE)
    assert codes(tmp_path / "more") == {"a": "MS-C107"}
    assert codes(tmp_path / "more", ("T1", "T2")) == {"a": None}
    assert check_image(tmp_path / "more" / "a.nii.gz", ReadOptions()) == 2
    assert set(codes(scans, ("T1", "T2")).values()) == {"MS-C107"}
    assert [case.error for case in check_cases(find_cases(scans, channels=("T1", "T2")), None)] == [None] * 4


def test_dicom_folders_by_their_headers(tmp_path):
    write_stack(tmp_path / "studies" / "whole", stack())
    write_stack(
        tmp_path / "studies" / "gap", stack(), skip=(3,), StudyInstanceUID="1.2.3.9", SeriesInstanceUID="1.2.3.8"
    )
    found = codes(tmp_path / "studies")
    assert sorted(found.values(), key=str) == ["MS-D104", None]
    assert set(codes(tmp_path / "studies", options=ReadOptions(allow_gaps=True)).values()) == {None}


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), RuntimeError("a mistake of ours")])
def test_a_disk_that_fails_is_told_by_reading(scans, monkeypatch, error):
    def failing(path, options):
        raise error

    monkeypatch.setattr("medseg.readers.cases.headers.check_image", failing)
    cases = find_cases(scans)
    assert check_cases(cases) == cases


def test_detached_data_are_looked_for(tmp_path):
    lines = ["ObjectType = Image", "NDims = 3", "DimSize = 4 4 4", "ElementType = MET_UCHAR", "ElementSpacing = 1 1 1"]
    lines += ["TransformMatrix = 1 0 0 0 1 0 0 0 1", "ElementDataFile = a.raw"]
    (tmp_path / "a.mhd").write_text("\n".join([*lines, ""]), encoding="utf-8")
    with pytest.raises(InputError, match=r"MS-F101 .*a\.raw"):
        check_image(tmp_path / "a.mhd", ReadOptions())
    (tmp_path / "a.raw").write_bytes(bytes(63))
    with pytest.raises(InputError, match=r"MS-F120 .*63 of 64"):
        check_image(tmp_path / "a.mhd", ReadOptions())
    (tmp_path / "a.raw").write_bytes(bytes(64))
    assert check_image(tmp_path / "a.mhd", ReadOptions()) == 1


@pytest.mark.parametrize("start", [0, 100])
@pytest.mark.parametrize("cut", [0, 1, 4, 9, 500])
def test_a_cut_gzip_stream_is_told_by_its_end(tmp_path, start, cut):
    data = np.random.default_rng(0).bytes(5000)
    packed = gzip.compress(data)
    (tmp_path / "x").write_bytes(bytes(start) + packed[: len(packed) - cut])
    if cut == 0:
        require_whole(tmp_path / "x", 5000, start=start)
        require_whole(tmp_path / "x", 4000, start=start)
        with pytest.raises(InputError, match=r"MS-F120 .*5000 of 5001"):
            require_whole(tmp_path / "x", 5001, start=start)
        return
    with pytest.raises(InputError, match=r"MS-F12[01]"):
        require_whole(tmp_path / "x", 5000, start=start)


def test_headers_load_neither_torch_nor_numba():
    import subprocess

    code = "import sys, medseg.workflows.predict; print(sorted({'torch', 'monai', 'numba'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
