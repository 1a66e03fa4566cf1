"""A whole import without nnU-Net: the bundle keeps its promises, predicts, and has its folds as an ensemble."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import medseg
from medseg.bundle.check import check_bundle
from medseg.bundle.load import load_bundle
from medseg.bundle.nnunet import import_nnunet
from medseg.bundle.weights import read_weights
from medseg.errors import BundleError, OutputError
from medseg.volume import Volume
from tests.bundle.nnunet.made import checkpoint, network


def regions(dataset):
    dataset["labels"] = {"background": 0, "whole": [1, 2], "core": [2]}
    dataset["regions_class_order"] = [1, 2]


def scan() -> Volume:
    values = np.random.default_rng(0).normal(size=(20, 24, 10)).astype(np.float32)
    return Volume(values, np.diag([1.1, 0.9, 2.0, 1.0]))


def test_the_bundle_keeps_its_promises_and_finds_the_same_as_its_parts(trained, tmp_path):
    found = import_nnunet(trained(), tmp_path / "things_segmentation")
    assert (found.configuration, found.folds, found.structures) == ("3d_fullres", ("0", "1"), ("thing", "other"))
    assert [p.code for p in found.problems] == ["MS-B304"]  # the domain alone is not known
    assert list(found.problems) == check_bundle(found.bundle)
    bundle = load_bundle(found.bundle)
    assert bundle.inferer.mirror_axes == (0, 1, 2)
    assert bundle.inferer.spread
    assert len(bundle.members()) == 2
    assert len(bundle.uncertainty.mirrors) == 7
    result = medseg.predict(scan(), found.bundle, uncertainty="ensemble")
    assert result.segmentation.array.shape == (20, 24, 10)


def test_weights_are_the_folds_own_in_half_precision(trained, tmp_path):
    torch.manual_seed(3)
    nets = [network(), network()]
    root = trained(folds={str(n): checkpoint(net, n) for n, net in enumerate(nets)})
    bundle = import_nnunet(root, tmp_path / "b_segmentation", folds=["1", "0"]).bundle
    for file, net in (("model.safetensors", nets[1]), ("model.pt", nets[1]), ("fold_0.safetensors", nets[0])):
        state = read_weights(bundle / "models" / file)
        assert all(torch.equal(state[key], value.half()) for key, value in net.state_dict().items())


def test_one_fold_is_no_ensemble_and_two_axes_no_symmetries(trained, tmp_path):
    root = trained(folds={"0": checkpoint(network(), inference_allowed_mirroring_axes=(0, 1))})
    bundle = load_bundle(import_nnunet(root, tmp_path / "b_segmentation").bundle)
    assert bundle.uncertainty.weights == ()
    assert bundle.uncertainty.mirrors == ()
    assert bundle.inferer.mirror_axes == (0, 1)


def test_regions(trained, tmp_path):
    root = trained(dataset=regions, folds={"0": checkpoint(network(2))})
    found = import_nnunet(root, tmp_path / "b_segmentation")
    assert [p.code for p in found.problems] == ["MS-B304"]
    result = medseg.predict(scan(), found.bundle, uncertainty="tta")
    assert set(np.unique(result.segmentation.array)) <= {0, 1, 2}
    train = json.loads((found.bundle / "configs" / "train.json").read_text())
    assert train["losses"]["dice_ce"]["regions"] == [[1, 2], [2]]


def test_the_card_says_where_it_comes_from(trained, tmp_path):
    bundle = import_nnunet(trained(), tmp_path / "b_segmentation").bundle
    card = (bundle / "docs" / "README.md").read_text()
    for words in ("Dataset007_Things", "3d_fullres", "nnUNetTrainer", "checkpoint_final.pth"):
        assert words in card
    assert "nnUNetv2_predict -f 0" in card


def test_a_folder_that_is_in_use_is_not_written_to(trained, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="not empty") as caught:
        import_nnunet(trained(), tmp_path / "b")
    assert caught.value.code == "MS-B157"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lambda: checkpoint(network(), configuration="3d_twice"), "trained otherwise than fold_0"),
        (lambda: checkpoint(network(2)), "trained otherwise than fold_0"),
        (lambda: checkpoint(network(), inference_allowed_mirroring_axes=(0,)), "trained otherwise than fold_0"),
    ],
)
def test_folds_that_do_not_belong_together(trained, tmp_path, second, message):
    root = trained(folds={"0": checkpoint(network()), "1": second()})
    with pytest.raises(BundleError, match=message) as caught:
        import_nnunet(root, tmp_path / "b_segmentation")
    assert caught.value.code == "MS-B158"
    assert not (tmp_path / "b_segmentation").exists()


def test_a_trainer_that_built_another_network(trained, tmp_path):
    root = trained(folds={"0": checkpoint(network(features=[2, 5, 4]), trainer_name="nnUNetTrainerWide")})
    with pytest.raises(BundleError, match="nnUNetTrainerWide built another network than the PlainConvUNet") as caught:
        import_nnunet(root, tmp_path / "b_segmentation")
    assert caught.value.code == "MS-B158"


def test_weights_that_are_not_finite(trained, tmp_path):
    net = network()
    torch.nn.init.constant_(net.decoder.seg_layers[0].bias, float("nan"))
    with pytest.raises(BundleError, match="not finite") as caught:
        import_nnunet(trained(folds={"0": checkpoint(net)}), tmp_path / "b_segmentation")
    assert caught.value.code == "MS-B114"


def test_a_2d_model_is_refused_kindly(trained, tmp_path):
    root = trained(folds={"0": checkpoint(network(), configuration="2d")})
    with pytest.raises(BundleError, match="2d segments slice by slice, and medseg segments volumes") as caught:
        import_nnunet(root, tmp_path / "b_segmentation")
    assert caught.value.code == "MS-B154"
