"""Which cases train and which validate."""

from __future__ import annotations

import pytest

from medseg.errors import InputError
from medseg.training import datalist


@pytest.fixture
def folder(tmp_path):
    for sub, tail in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (tmp_path / sub).mkdir()
        for n in range(10):
            (tmp_path / sub / f"case_{n}{tail}").touch()
        (tmp_path / sub / "._case_0.nii.gz").touch()  # what macOS leaves in archives
    return tmp_path


def names(rows):
    return {row["label"].rsplit("case_")[1][0] for row in rows}


def test_named_cases_validate_and_the_others_train(folder):
    held = ["case_3", "case_5", "not_here"]
    assert names(datalist(str(folder), "val", held)) == {"3", "5"}
    assert names(datalist(str(folder), "train", held)) == set("0124678") | {"9"}


def test_other_peoples_data_is_split_by_the_seed(folder):
    train, val = (names(datalist(str(folder), part, ["hippocampus_001"], 0.3, 1)) for part in ("train", "val"))
    assert len(val) == 3
    assert train | val == set("0123456789")
    assert not train & val
    assert val == names(datalist(str(folder), "val", (), 0.3, 1))


def test_scans_of_a_subject_stay_on_one_side(tmp_path):
    scans = [f"sub-{n // 3}_ses-{n % 3}.nii.gz" for n in range(12)]
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        for name in scans:
            (tmp_path / part / name).touch()
    for seed in range(20):
        train, val = (
            {row["label"].rsplit("sub-")[1][0] for row in datalist(str(tmp_path), part, (), 0.25, seed)}
            for part in ("train", "val")
        )
        assert len(val) == 1
        assert not train & val


def test_missing_labels_and_empty_folders_are_refused(folder, tmp_path_factory):
    (folder / "labelsTr" / "case_4.nii.gz").unlink()
    with pytest.raises(InputError, match=r"MS-T102.*case_4"):
        datalist(str(folder), "train")
    with pytest.raises(InputError, match="MS-T101"):
        datalist(str(tmp_path_factory.mktemp("empty")), "train")
