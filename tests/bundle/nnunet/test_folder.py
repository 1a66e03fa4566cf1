"""Which files make a trained model, and what is said where they are missing."""

from __future__ import annotations

import pytest

from medseg.bundle.nnunet.folder import find_trained
from medseg.errors import BundleError, UsageError


def test_all_numbered_folds_are_found_in_order(trained):
    root = trained(folds={"10": {}, "2": {}, "all": {}})
    assert list(find_trained(root).checkpoints) == ["2", "10"]
    assert find_trained(root, ["10", "2", "10"]).checkpoints == {
        "10": root / "fold_10" / "checkpoint_final.pth",
        "2": root / "fold_2" / "checkpoint_final.pth",
    }
    assert list(find_trained(root, ["all"]).checkpoints) == ["all"]


def test_fold_all_is_taken_where_there_is_no_other(trained):
    assert list(find_trained(trained(folds={"all": {}})).checkpoints) == ["all"]


def test_a_fold_that_is_not_there(trained):
    root = trained()
    with pytest.raises(BundleError, match=r"no checkpoint_final.pth in fold_3(?s:.*)--folds 0,1 imports") as caught:
        find_trained(root, ["0", "3"])
    assert caught.value.code == "MS-B151"


def test_a_training_that_has_not_finished(trained):
    root = trained(name="checkpoint_best.pth")
    with pytest.raises(BundleError, match=r"the folds have checkpoint_best.pth(?s:.*)--checkpoint best") as caught:
        find_trained(root)
    assert caught.value.code == "MS-B151"
    assert list(find_trained(root, checkpoint="best").checkpoints) == ["0", "1"]


def test_a_folder_above_the_model_says_which_there_are(trained):
    root = trained()
    with pytest.raises(BundleError, match=rf"holds 1 trained model(?s:.*)medseg bundle import {root}") as caught:
        find_trained(root.parent)
    assert caught.value.code == "MS-B150"


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(BundleError, match=r"no trained nnU-Net v2 model") as caught:
        find_trained(tmp_path)
    assert caught.value.code == "MS-B150"
    with pytest.raises(BundleError, match=r"MS-B150 .*there is no such folder"):
        find_trained(tmp_path / "nothing")


def test_plans_that_are_no_table(trained):
    root = trained()
    (root / "plans.json").write_text("[1]")
    with pytest.raises(BundleError, match=r"MS-B104 .*plans.json: holds a list"):
        find_trained(root)


def test_an_unknown_checkpoint(trained):
    with pytest.raises(UsageError, match=r"MS-U174 no checkpoint is called 'last'"):
        find_trained(trained(), checkpoint="last")
