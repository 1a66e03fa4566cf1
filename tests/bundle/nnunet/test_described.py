"""metadata.json and the model card say what was imported."""

from __future__ import annotations

from medseg.bundle.metadata import metadata_problems
from medseg.bundle.nnunet.checkpoint import Checkpoint
from medseg.bundle.nnunet.described import data_license, metadata_of, model_card
from medseg.bundle.nnunet.labels import outputs_of

LABELS = {"labels": {"background": 0, "liver": 1, "tumour": 2}}


def test_metadata_keeps_the_specification(tmp_path):
    metadata = metadata_of("Livers", ("CT",), outputs_of(LABELS, tmp_path), (8, 16, 16), ("CT",), "somewhere")
    assert list(metadata_problems(metadata)) == []
    described = metadata["network_data_format"]
    assert described["inputs"]["image"]["spatial_shape"] == ["16*n", "32*n", "32*n"]
    assert described["inputs"]["image"]["format"] == "hounsfield"
    assert described["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "liver", "2": "tumour"}


def test_many_structures_are_counted(tmp_path):
    labels = {"background": 0, **{f"a rather long name of structure {n}": n for n in range(1, 40)}}
    metadata = metadata_of("Many", ("CT",), outputs_of({"labels": labels}, tmp_path), (8, 8, 8), (), "")
    assert metadata["task"] == "Segmentation of 39 structures"


def test_the_card_names_folds_and_hashes(tmp_path):
    path = tmp_path / "checkpoint_final.pth"
    path.write_bytes(b"abc")
    read = Checkpoint(path, {}, "3d_fullres", "nnUNetTrainer", (0, 1, 2))
    metadata = metadata_of("Livers", ("CT",), outputs_of(LABELS, tmp_path), (8, 8, 8), (), "")
    card = model_card(metadata, {"numTraining": 5}, {"dataset_name": "Dataset003_Liver"}, {"2": read}, mirrored=True)
    assert "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" in card  # sha256 of abc
    assert "One fold (2) was imported" in card
    assert "averaged over mirror images" in card
    assert "as the file stores them" in card
    turned = model_card(metadata, {}, {}, {"2": read}, axes="LPS")
    assert "turned to LPS first" in turned
    assert "mirror images" not in turned


def test_the_licence_is_what_the_dataset_says():
    assert "CC0" in data_license({"licence": "CC0"})
    assert "names no licence" in data_license({})
