"""Which folder of a case holds its masks, and what they are called."""

from __future__ import annotations

import os

import pytest

from medseg.training.plan.mask_folder import images_in, mask_folder, structures_of


def made(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


@pytest.mark.parametrize("name", ["segmentations", "masks", "Labels", "seg_fast"])
def test_the_only_folder_that_is_called_label_maps(tmp_path, name):
    made(tmp_path, "ct.nii.gz", f"{name}/liver.nii.gz", f"{name}/.hidden.nii.gz", f"{name}/notes.txt", f"{name}/a.img")
    made(tmp_path, f"{name}/a.hdr", ".git/config", "__MACOSX/ct.nii.gz", "papers/list.csv")
    found = mask_folder(tmp_path)
    assert found == tmp_path / name
    assert [file.name for file in images_in(found)] == ["a.hdr", "liver.nii.gz"]


@pytest.mark.parametrize(
    "files",
    [
        ("ct.nii.gz",),
        ("ct.nii.gz", "others/liver.nii.gz"),
        ("ct.nii.gz", "segmentations/readme.txt"),
        ("ct.nii.gz", "segmentations/liver.nii.gz", "more/a.nii.gz"),
        ("ct.nii.gz", "ct_seg.nii.gz", "segmentations/liver.nii.gz"),
    ],
)
def test_nothing_is_guessed_where_it_is_not_plain(tmp_path, files):
    assert mask_folder(made(tmp_path, *files)) is None


def test_a_folder_that_may_not_be_read_holds_none(tmp_path, monkeypatch):
    made(tmp_path, "ct.nii.gz", "masks/liver.nii.gz")

    def refuse(_):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("medseg.training.plan.mask_folder.folders_in", refuse)
    assert mask_folder(tmp_path) is None


def test_the_name_of_the_case_is_no_part_of_a_structures_name(tmp_path):
    case = made(tmp_path / "p1", "p1_ct.nii.gz")
    masks = [
        case / "masks" / f"{name}.nii.gz" for name in ("liver", "p1_liver", "p1_ct_rib_2", "p1", "p10_rib", "p1-x")
    ]
    assert structures_of(case, masks) == ["liver", "liver", "rib_2", "", "p10_rib", "x"]
