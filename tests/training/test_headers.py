"""A training is refused for the headers of its files before anything is written or built, all of them at once."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from medseg.training import headers
from medseg.training.headers import require_headers
from medseg.training.plan.problems import DatasetError
from medseg.training.train import train_bundle
from medseg.writers.nifti import write_nifti

AFFINE = np.diag([-1.0, 1.5, 2.0, 1.0])


@pytest.fixture
def dataset(tmp_path):
    """imagesTr and labelsTr of five cases."""
    for name in "abcde":
        array = np.random.default_rng(0).integers(0, 900, (8, 8, 8)).astype(np.int16)
        write_nifti(tmp_path / "data" / "imagesTr" / f"{name}.nii.gz", array, AFFINE)
        write_nifti(tmp_path / "data" / "labelsTr" / f"{name}.nii.gz", (array > 500).astype(np.uint8), AFFINE)
    return tmp_path / "data"


def rows(data):
    return [
        {"image": str(data / "imagesTr" / f"{n}.nii.gz"), "label": str(data / "labelsTr" / f"{n}.nii.gz")}
        for n in "abcde"
    ]


def test_sound_files_pass(dataset):
    require_headers(rows(dataset), dataset)
    several = [{"image": [row["image"], row["image"]], "label": row["label"]} for row in rows(dataset)]
    require_headers(several, dataset)


def test_what_the_system_cannot_open_is_one_more_row(dataset, monkeypatch):
    break_three(dataset)
    opened = headers.check_image

    def check_image(path, options):
        if path.parent.name == "labelsTr" and path.name.startswith("e"):
            raise OSError(errno.ESTALE, "Stale file handle")
        return opened(path, options)

    monkeypatch.setattr(headers, "check_image", check_image)
    with pytest.raises(DatasetError) as caught:
        require_headers(rows(dataset), dataset)
    assert [one.code for one in caught.value.problems if "Stale" in one.what] == ["MS-F101"]
    assert len(caught.value.problems) == 4


def break_three(data):
    (data / "imagesTr" / "b.nii.gz").write_bytes(b"")
    whole = (data / "labelsTr" / "c.nii.gz").read_bytes()
    (data / "labelsTr" / "c.nii.gz").write_bytes(whole[: len(whole) // 2])
    (data / "imagesTr" / "d.nii.gz").write_bytes(b"<html>")


def test_all_broken_ones_at_once(dataset):
    break_three(dataset)
    with pytest.raises(DatasetError, match=r"MS-T140 .*3 faults in 3 files") as caught:
        require_headers(rows(dataset), dataset)
    assert {problem.code for problem in caught.value.problems} == {"MS-F104", "MS-F106", "MS-F120"}


def test_training_stops_before_a_run_is_begun(dataset, tmp_path):
    break_three(dataset)
    with pytest.raises(DatasetError, match="3 faults"):
        train_bundle("hippocampus_mri_segmentation", dataset, tmp_path / "run", epochs=1)
    assert not (tmp_path / "run").exists()
