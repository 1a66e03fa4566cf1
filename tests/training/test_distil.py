"""Teachers say probabilities, and a student learns them beside the labels."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import nn

from medseg.bundle.load import load_bundle
from medseg.bundle.shipped import find_bundle
from medseg.bundle.weights import save_weights
from medseg.errors import BundleError, UsageError
from medseg.networks import UNet
from medseg.training.distil import DistillationLoss, Teacher, entropy, teacher_for

BUNDLE = "hippocampus_mri_segmentation"
SHAPE = (2, 3, 4, 5, 6)


def copied(target, *, features=(4, 8, 8, 8), members: int = 0):
    """The shipped recipe with a small network, in both configs, and random weights."""
    shutil.copytree(find_bundle(BUNDLE), target, ignore=shutil.ignore_patterns("models"))
    for name in ("train", "inference"):
        path = target / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["network_def"]["features"] = list(features)
        if name == "inference":
            config.pop("uncertainty", None)
            if members:
                weights = [f"models/member_{n}.safetensors" for n in range(1, members)]
                config["uncertainty"] = {"ensemble": {"weights": weights}}
        path.write_text(json.dumps(config), encoding="utf-8")
    for n in range(members or 1):
        save_weights(UNet(1, 3, features, deep_supervision=2).state_dict(), target)
        if n:
            (target / "models" / "model.safetensors").rename(target / "models" / f"member_{n}.safetensors")
    if members:
        save_weights(UNet(1, 3, features, deep_supervision=2).state_dict(), target)
    return target


def divergence(teacher, student):
    """KL(teacher || student) of probabilities (B, K, ...), summed over classes, mean over voxels."""
    return (teacher * (teacher.log() - student.log())).sum(1).mean()


def test_the_soft_part_is_the_divergence_at_a_temperature():
    torch.manual_seed(0)
    student, teacher = torch.randn(SHAPE).double(), torch.randn(SHAPE).double()
    label = torch.randint(0, 3, (2, 1, 4, 5, 6)).double()
    hard = DiceCELoss(to_onehot_y=True, softmax=True)
    for temperature in (1.0, 2.5):
        told = (teacher / temperature).softmax(1)
        soft = temperature**2 * divergence(told, (student / temperature).softmax(1))
        for weight in (0.0, 0.3, 1.0):
            found = DistillationLoss(hard, weight, temperature)(student, torch.cat([label, told], 1))
            wanted = (1 - weight) * hard(student.float(), label.float()) + weight * soft
            assert found.item() == pytest.approx(wanted.item(), abs=1e-5)


def test_regions_diverge_each_on_its_own():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 4, 4, 4), torch.rand(2, 2, 4, 4, 4)
    found = DistillationLoss(lambda *_: torch.zeros(()), 1.0, 1.0, sigmoid=True)(
        student, torch.cat([teacher[:, :1] * 0, teacher], 1)
    )
    p, q = teacher, student.sigmoid()
    wanted = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    assert found.item() == pytest.approx(wanted.item(), abs=1e-5)


def test_a_student_that_agrees_has_nothing_to_learn():
    teacher = torch.randn(SHAPE)
    student = teacher.clone().requires_grad_()
    target = torch.cat([torch.zeros(2, 1, 4, 5, 6), (teacher / 2).softmax(1)], 1)
    loss = DistillationLoss(lambda *_: torch.zeros(()), 1.0, 2.0)(student, target)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max() < 1e-7


def test_a_sure_teacher_has_no_entropy():
    assert entropy(torch.eye(3)[None, :, :, None, None]).item() == 0
    assert entropy(torch.full((1, 3, 2, 2, 2), 1 / 3)).item() == pytest.approx(math.log(3))
    assert entropy(torch.full((1, 3, 2, 2, 2), 0.5), sigmoid=True).item() == pytest.approx(math.log(2))


def test_with_deep_supervision_each_resolution_is_compared():
    torch.manual_seed(0)
    target = torch.cat([torch.zeros(2, 1, 8, 8, 8), torch.randn(2, 3, 8, 8, 8).softmax(1)], 1)
    levels = [torch.randn(2, 3, n, n, n, requires_grad=True) for n in (8, 4, 2)]
    one = DistillationLoss(DiceCELoss(to_onehot_y=True, softmax=True), 0.5, 2.0)
    found = DeepSupervisionLoss(one)(levels, target)
    nearest = [nn.functional.interpolate(target, size=level.shape[2:], mode="nearest-exact") for level in levels]
    wanted = sum(0.5**n * one(level, at) for n, (level, at) in enumerate(zip(levels, nearest, strict=True)))
    assert found.item() == pytest.approx(wanted.item())
    found.backward()
    assert all(level.grad.abs().sum() > 0 for level in levels)


def test_settings_that_make_no_sense_are_refused():
    for weight, temperature in ((-0.1, 1), (1.1, 1), (0.5, 0)):
        with pytest.raises(ValueError, match="weight lies in"):
            DistillationLoss(nn.MSELoss(), weight, temperature)
    with pytest.raises(ValueError, match="no label before"):
        DistillationLoss(nn.MSELoss())(torch.rand(SHAPE), torch.rand(SHAPE))


def test_an_ensemble_is_averaged_as_probabilities(tmp_path):
    root = copied(tmp_path / "three_segmentation", members=3)
    teacher = Teacher([str(root)], temperature=2.0)
    networks = load_bundle(root).members()
    assert len(teacher.networks) == len(networks) == 3
    images = torch.randn(2, 1, 16, 16, 24)
    with torch.no_grad():
        wanted = sum((network(images) / 2).softmax(1) for network in networks) / 3
    found = teacher(images)
    assert (found - wanted).abs().max() < 0.02, "bfloat16 where the machine has it"
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert not any(weight.requires_grad for network in teacher.networks for weight in network.parameters())
    assert found.sum(1) == pytest.approx(1, abs=1e-5)


def test_images_that_the_network_does_not_divide_are_filled_up(tmp_path):
    teacher = Teacher([str(copied(tmp_path / "one_segmentation"))])
    found = teacher(torch.randn(1, 1, 13, 16, 9))
    assert found.shape == (1, 3, 13, 16, 9)
    whole = torch.randn(1, 1, 16, 16, 16)
    whole[..., 13:] = whole[..., 12:13]
    assert torch.equal(teacher(whole[..., :13]), teacher(whole)[..., :13])


def test_a_teacher_that_says_something_else_is_refused(tmp_path):
    student = copied(tmp_path / "student_segmentation")
    told = teacher_for(student, [str(student)], 3.0)
    assert told["bundles"] == [str(student)]
    assert told["temperature"] == 3.0
    assert told["sigmoid"] is False

    def refused(change, what):
        other = tmp_path / "other_segmentation"
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(student, other)
        path = other / "configs" / "inference.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        change(config)
        path.write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises(BundleError, match=f"MS-T174[\\s\\S]*other {what}"):
            teacher_for(student, [str(student), str(other)])

    refused(lambda c: c.update(channels=["T2w"]), "channels")
    refused(lambda c: c["labels"][0].update(name="Amygdala"), "structures")
    refused(lambda c: c["preprocessing"]["transforms"].pop(), "preprocessing")
    with pytest.raises(UsageError, match="MS-T173"):
        teacher_for(student, [])
    with pytest.raises(UsageError, match=r"MS-T173[\s\S]*instances"):
        teacher_for(student, ["phantom_instance_segmentation"])
    shutil.rmtree(student / "models")
    with pytest.raises(BundleError, match="MS-B110"):
        teacher_for(student, [str(student)])
