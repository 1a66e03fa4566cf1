"""Gaps and ignored voxels, from the plan through a training to a prediction in the user's values."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.bundle.load import load_bundle
from medseg.readers.open import read
from medseg.training.plan.plan import plan_bundle
from medseg.training.train import train_bundle
from medseg.workflows.method import parse_method
from medseg.workflows.segment import segment


def config(bundle, name="train"):
    return json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))


def blocks(values=(1, 2), ignore=None):
    label = np.zeros((24, 24, 24), np.uint8)
    label[4:14, 6:16, 8:18] = values[0]
    label[15:20, 6:16, 8:18] = values[1]
    if ignore is not None:
        label[:, :, 20:] = ignore
    return label


@pytest.fixture(scope="module")
def gaps(tmp_path_factory, maker_at):
    """Left and right kidney are 3 and 7, 12 is ignored; the images show the kidneys at once."""
    root = tmp_path_factory.mktemp("gaps")
    maker = maker_at(root / "data")
    for n in range(4):
        label = blocks((3, 7), 12)
        rng = np.random.default_rng(n)
        image = 300 * (label == 3) + 600 * (label == 7) + rng.normal(0, 5, label.shape)
        maker.case(f"gap_{n}", n, labels=label, image=image)
    names = {"background": 0, "kidney left": 3, "kidney right": 7, "ignore": 12}
    maker.say(channel_names={"0": "T2"}, labels=names)
    return plan_bundle(maker.root, root / "gaps_segmentation", measure=False), maker.root


def test_values_with_gaps_take_as_many_channels_as_structures(gaps):
    found, _ = gaps
    assert found.problems == ()
    train, inference = config(found.bundle), config(found.bundle, "inference")
    assert train["network_def"]["out_channels"] == 3
    assert [row["value"] for row in train["labels"]] == [3, 7]
    assert inference["domain"]["volume_ml"] == {"kidney left": [1.0, 1.0], "kidney right": [0.5, 0.5]}
    mirror = next(s for s in train["train"]["random_transforms"] if s["_target_"].endswith("RandMirrord"))
    assert mirror["labels"] == [[1, 2]]
    for loss in train["losses"].values():
        for one in loss.get("losses", [loss]):
            assert one["ignore_index"] == 3
    report = (found.bundle / "docs" / "plan.md").read_text(encoding="utf-8")
    assert "label 12, in 4 cases of 4, up to 17 % of a scan" in report
    assert "inside the network they are 1 to 2" in report


def test_the_network_sees_numbers_without_gaps(gaps, parts):
    found, data = gaps
    cases, steps = parts(found.bundle, data, "train#dataset#data", "validate#preprocessing")
    assert np.unique(steps(cases[0])["label"]).tolist() == [0, 1, 2, 3]


def test_what_is_predicted_of_ignored_voxels_changes_neither_loss_nor_score(gaps, parts):
    found, data = gaps
    cases, steps, ending, loss = parts(
        found.bundle, data, "train#dataset#data", "validate#preprocessing", "validate#postprocessing", "base_loss"
    )
    label = steps(cases[0])["label"]
    torch.manual_seed(0)
    one = torch.randn(3, *label.shape[1:])
    other = torch.where(label == 3, torch.randn_like(one), one)
    assert not torch.equal(one, other)
    assert loss(one[None], label[None]).item() == pytest.approx(loss(other[None], label[None]).item(), abs=1e-7)
    a, b = (ending({"pred": pred, "label": label}) for pred in (one, other))
    assert torch.equal(a["pred"], b["pred"])
    assert torch.equal(a["label"].sum(0), torch.ones_like(a["label"][0]))


def test_whole_scans_are_scored_in_the_values_of_their_files_without_what_is_ignored(gaps, parts):
    from medseg.training.scan_scores import KEY, ScanScoresd

    found, data = gaps
    cases, steps = parts(found.bundle, data, "train#dataset#data", "validate#preprocessing")
    case = steps(cases[0])
    truth = case["label"][0].as_tensor().long()
    logits = torch.nn.functional.one_hot(torch.where(truth == 3, 1, truth), 3).movedim(-1, 0).float()
    scores = ScanScoresd(["dice"], config(found.bundle)["labels"], values=[0, 3, 7], ignore=12)
    assert scores({**case, "pred": logits})[KEY]["dice"].tolist() == [1.0, 1.0]
    strict = ScanScoresd(["dice"], config(found.bundle)["labels"], values=[0, 3, 7])
    assert strict({**case, "pred": logits})[KEY]["dice"][0] < 0.9


def test_it_trains_and_predicts_in_the_values_of_the_user(gaps, tmp_path):
    found, data = gaps
    run = train_bundle(found.bundle, data, tmp_path / "run", minutes=0.4)
    bundle = load_bundle(run)
    volume = read(data / "imagesTr" / "gap_0.nii.gz")
    predicted = segment(volume, bundle).labels.array
    assert set(np.unique(predicted)) <= {0, 3, 7}
    told = segment(volume, bundle, method=parse_method("mc:2", keep=True)).uncertainty
    assert set(told.doubt) == {"kidney left", "kidney right"}
    assert set(np.unique(told.kept)) <= {0, 3, 7}
    assert min(one.agreement for one in told.doubt.values()) > 0.8
    segment(volume, bundle, method=parse_method("tta"))
    truth = nib.load(data / "labelsTr" / "gap_0.nii.gz").get_fdata()
    inside = truth != 12
    assert (predicted == truth)[inside & (truth > 0)].mean() > 0.5


def test_ignored_voxels_of_regions_train(maker, tmp_path, parts):
    for n in range(3):
        label = blocks()
        label[6:10, 8:12, 10:14] = 2
        label[:, :, 20:] = 4
        maker.case(f"tumour_{n}", n, labels=label)
    maker.say(channel_names={"0": "T1"}, labels={"background": 0, "whole": [1, 2], "core": [2], "ignore": 4})
    found = plan_bundle(maker.root, tmp_path / "tumour_segmentation", measure=False)
    assert found.problems == ()
    train = config(found.bundle)
    assert all(loss["ignore"] == 4 for loss in train["losses"].values())
    (loss,) = parts(found.bundle, maker.root, "base_loss")
    torch.manual_seed(0)
    label = torch.from_numpy(label)[None, None].float()
    one = torch.randn(1, 2, *label.shape[2:])
    other = torch.where(label == 4, torch.randn_like(one), one)
    assert loss(one, label).item() == pytest.approx(loss(other, label).item(), abs=1e-7)
    train_bundle(found.bundle, maker.root, tmp_path / "run", epochs=1)
