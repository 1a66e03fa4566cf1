"""`medseg train` refuses what contradicts itself before it loads anything."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np

from medseg.cli.app import run
from medseg.training import train as train_module


def test_minutes_and_epochs_exclude_each_other(tmp_path, capsys):
    words = ["train", str(tmp_path), str(tmp_path), "-o", str(tmp_path / "run")]
    assert run([*words, "--minutes", "1", "--epochs", "2"]) == 2
    assert "MS-U102" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_fold_needs_the_number_of_folds(tmp_path, capsys):
    assert run(["train", str(tmp_path), str(tmp_path), "-o", str(tmp_path / "run"), "--fold", "2"]) == 2
    assert "--folds 5" in capsys.readouterr().err


def test_a_subject_on_both_sides_is_told_in_a_table(tmp_path, capsys):
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
        for n, name in enumerate(("sub-1_ses-1", "sub-1_ses-2", "sub-2")):
            array = np.random.default_rng(n).normal(size=(4, 4, 4)) if part == "imagesTr" else np.ones((4, 4, 4))
            nib.save(nib.Nifti1Image(array.astype(np.float32), np.eye(4)), tmp_path / part / f"{name}.nii.gz")
    names = (["sub-1_ses-1", "sub-2"], ["sub-1_ses-2"])
    folds = [{"train": a, "val": b} for a, b in (names, names[::-1])]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds), encoding="utf-8")
    words = ["train", "hippocampus_mri_segmentation", str(tmp_path), "-o", str(tmp_path / "run"), "--folds", "2"]
    assert run(words) == 3
    told = capsys.readouterr().err
    assert "subject sub-1 validates with sub-1_ses-2 and trains with sub-1_ses-1" in told
    assert "nothing was written" in told
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_module, "train_bundle", stopped)
    words = ["train", str(tmp_path), str(tmp_path), "-o", str(tmp_path / "run")]
    assert run(words) == 130
    assert "stopped before the first checkpoint: nothing is kept" in capsys.readouterr().err
    for models in ("models", "fold_1/models"):  # of a run, of one among several folds
        checkpoint = tmp_path / "run" / models / "resume_00000007-0123456789abcdef.pt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        assert run(words) == 130
        assert "--resume" in capsys.readouterr().err
        checkpoint.unlink()
