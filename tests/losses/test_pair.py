"""What holds for every loss: targets of any kind, unknown voxels, gradients, autocast, deep supervision, weights."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DeepSupervisionLoss
from torch import Tensor
from torch.autograd import gradcheck

from medseg.losses import (
    BoundaryLoss,
    ClDiceLoss,
    CompoundLoss,
    CrossEntropyLoss,
    FocalLoss,
    FocalTverskyLoss,
    GeneralizedDiceLoss,
    HausdorffLoss,
    LovaszLoss,
)

#: C = 3 throughout: two classes and the background, or three regions.
LOSSES = {
    "cross-entropy": CrossEntropyLoss,
    "focal": FocalLoss,
    "tversky": FocalTverskyLoss,
    "generalised dice": GeneralizedDiceLoss,
    "lovasz": LovaszLoss,
    "cldice": ClDiceLoss,
    "boundary": BoundaryLoss,
    "hausdorff": HausdorffLoss,
    "hausdorff, two-sided": lambda **k: HausdorffLoss(spacing_mm=(1, 2, 3), **k),
    "compound": lambda **k: CompoundLoss(
        [FocalTverskyLoss(**k), CrossEntropyLoss(**k), BoundaryLoss(**k)], [1, 2, 0.1]
    ),
}
VOXELWISE = ("cross-entropy", "focal")
every = pytest.mark.parametrize("name", LOSSES)
both = pytest.mark.parametrize("sigmoid", [False, True], ids=["softmax", "sigmoid"])


def labels(shape=(2, 1, 5, 6, 4), classes=3, seed=0) -> Tensor:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed)).float()


def logits(shape=(2, 3, 5, 6, 4), seed=1, dtype=torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def onehot(target: Tensor, channels=3) -> Tensor:
    return (target == torch.arange(channels).view(1, -1, 1, 1, 1)).float()


def with_maps(loss, target: Tensor, sigmoid=False) -> Tensor:
    """Any numbers do for maps here: what they mean is tested with the losses and the transform."""
    if not loss.takes_maps:
        return target
    k = 3 if sigmoid and loss.include_background else 2
    maps = torch.randn(len(target), k, *target.shape[2:], generator=torch.Generator().manual_seed(9))
    return torch.cat([target, 3 * maps.to(target.dtype)], 1)


@every
def test_a_label_map_and_its_channels_are_one_target(name):
    loss, x, y = LOSSES[name](), logits(), labels()
    one = loss(x, with_maps(loss, y))
    torch.testing.assert_close(loss(x, with_maps(loss, onehot(y))), one)
    if not loss.takes_maps:
        for kind in (torch.uint8, torch.int16, torch.int64):
            torch.testing.assert_close(loss(x, y.to(kind)), one)


@both
@every
def test_the_gradient_is_the_slope(name, sigmoid):
    loss = LOSSES[name](sigmoid=sigmoid)
    x = logits((2, 3, 3, 4, 3), dtype=torch.float64)
    y = with_maps(loss, labels((2, 1, 3, 4, 3)).double(), sigmoid)
    assert gradcheck(loss, (x, y), fast_mode=False)
    soft = torch.rand(2, 3, 3, 4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    soft = soft if sigmoid else soft / soft.sum(1, keepdim=True)
    assert gradcheck(loss, (x, with_maps(loss, soft, sigmoid)))


@both
@every
@pytest.mark.parametrize("what", ["perfect", "all wrong", "only background", "nothing there", "one class fills all"])
def test_loss_and_gradient_are_finite_at_the_extremes(name, sigmoid, what):
    loss, y = LOSSES[name](sigmoid=sigmoid), labels()
    if what in ("nothing there", "one class fills all"):
        y = torch.full_like(y, 2.0 if what == "one class fills all" else 0.0)
    sign = {"all wrong": -1.0, "only background": 0.0}.get(what, 1.0)
    for size in (30.0, 1e4):
        x = (size * sign * (2 * onehot(y) - 1)).requires_grad_()
        if what == "only background":
            x = (size * (2 * onehot(torch.zeros_like(y)) - 1)).requires_grad_()
        value = loss(x, with_maps(loss, y, sigmoid))
        value.backward()
        assert value.isfinite()
        assert x.grad.isfinite().all()


@both
@every
def test_unknown_voxels_have_no_say(name, sigmoid):
    loss, x, y = LOSSES[name](sigmoid=sigmoid, ignore_index=255), logits(), labels()
    unknown = torch.rand(2, 1, 5, 6, 4, generator=torch.Generator().manual_seed(5)) < 0.3
    y = torch.where(unknown, 255.0, y)
    value = loss(x, with_maps(loss, y, sigmoid))
    (grad,) = torch.autograd.grad(value, x)
    assert grad.abs().sum() > 0
    assert (grad * unknown == 0).all()
    other = torch.where(unknown, -4 * logits(seed=8), x)
    torch.testing.assert_close(loss(other, with_maps(loss, y, sigmoid)), value)
    # One-hot, the voxels marked in every channel: the same. With softmax, of no class: the same too.
    marked = torch.where(unknown, 255.0, onehot(y))
    torch.testing.assert_close(loss(x, with_maps(loss, marked, sigmoid)), value)
    if not sigmoid:
        torch.testing.assert_close(loss(x, with_maps(loss, onehot(y), sigmoid)), value)
    # Where nothing is marked, knowing that something could be changes nothing.
    known, plain = with_maps(loss, labels(), sigmoid), LOSSES[name](sigmoid=sigmoid)
    torch.testing.assert_close(loss(x, known), plain(x, known))
    # Where everything is, there is nothing to learn.
    nothing = loss(x, with_maps(loss, torch.full_like(y, 255.0), sigmoid))
    (grad,) = torch.autograd.grad(nothing, x)
    assert nothing.isfinite()
    assert (grad == 0).all()


@every
def test_a_class_may_be_what_is_ignored(name):
    loss, x, y = LOSSES[name](ignore_index=1), logits(), labels()
    value = loss(x, with_maps(loss, y))
    (grad,) = torch.autograd.grad(value, x)
    assert (grad * (y == 1) == 0).all()
    torch.testing.assert_close(loss(x, with_maps(loss, onehot(y))), value)


@pytest.mark.parametrize("name", [*VOXELWISE, "tversky", "lovasz"])
def test_regions_may_be_unknown_each_on_its_own(name):
    loss, x = LOSSES[name](sigmoid=True, ignore_index=-1), logits()
    y = (torch.rand(2, 3, 5, 6, 4, generator=torch.Generator().manual_seed(4)) > 0.5).float()
    y[0, 1] = -1
    y[1, 2, :2] = -1
    value = loss(x, y)
    (grad,) = torch.autograd.grad(value, x)
    assert (grad[0, 1] == 0).all()
    assert (grad[1, 2, :2] == 0).all()
    assert (grad[1, 1] != 0).any()
    assert (grad[0, 2] != 0).any()


@every
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_sums_stay_float32_under_autocast(name, kind):
    loss = LOSSES[name]()
    x, y = logits((1, 3, 40, 40, 40)).detach().to(kind), labels((1, 1, 40, 40, 40))
    y = with_maps(loss, y)
    exact = loss(x.float(), y)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(x.requires_grad_(), y)
        (grad,) = torch.autograd.grad(found, x)
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)
    assert grad.isfinite().all()


@every
def test_deep_supervision_is_the_weighted_sum_over_scales(name):
    loss, y = LOSSES[name](), labels((2, 1, 8, 8, 8))
    fine, coarse = logits((2, 3, 8, 8, 8)), logits((2, 3, 4, 4, 4), seed=2)
    y = with_maps(loss, y)
    total = DeepSupervisionLoss(loss)([fine, coarse], y)
    small = torch.nn.functional.interpolate(y, size=(4, 4, 4), mode="nearest-exact")
    torch.testing.assert_close(total, loss(fine, y) + 0.5 * loss(coarse, small))


@every
def test_cases_are_apart(name):
    loss, x, y = LOSSES[name](), logits(), labels()
    y = with_maps(loss, y)
    apart = torch.stack([loss(x[i : i + 1], y[i : i + 1]) for i in range(2)]).mean()
    torch.testing.assert_close(loss(x, y), apart)


@pytest.mark.parametrize("name", [n for n in LOSSES if n != "compound"])
def test_class_weights_are_a_weighted_mean(name):
    x, y = logits(), labels()
    plain, unit, only = LOSSES[name](), LOSSES[name](weight=[2, 2, 2]), LOSSES[name](weight=[0, 0, 3])
    y = with_maps(plain, y)
    torch.testing.assert_close(unit(x, y), plain(x, y))
    assert only(x, y).item() != pytest.approx(plain(x, y).item(), rel=1e-4)
    with pytest.raises(ValueError, match=r"2 class weights, but there are 3 classes, the background included"):
        LOSSES[name](weight=[1, 1])(x, y)
    with pytest.raises(ValueError, match="class weights are at least 0 and not all 0"):
        LOSSES[name](weight=[1, -1, 1])


@pytest.mark.parametrize("name", ["tversky", "lovasz", "cldice", "hausdorff", "generalised dice"])
def test_the_background_counts_only_if_it_is_included(name):
    x, y = logits(), labels()
    inside, out = LOSSES[name](include_background=True), LOSSES[name]()
    maps = torch.randn(2, 3, 5, 6, 4, generator=torch.Generator().manual_seed(9))
    if out.takes_maps:
        assert inside(x, torch.cat([y, maps], 1)) != out(x, torch.cat([y, maps[:, 1:]], 1))
    else:
        assert inside(x, y) != out(x, y)


def test_of_regions_the_first_counts_unless_it_is_left_out():
    x, y = logits(), onehot(labels())
    for name in ("tversky", "lovasz"):
        (grad,) = torch.autograd.grad(LOSSES[name](sigmoid=True)(x, y), x)
        assert (grad[:, 0] != 0).any()
        (grad,) = torch.autograd.grad(LOSSES[name](sigmoid=True, include_background=False)(x, y), x)
        assert (grad[:, 0] == 0).all()


@every
def test_one_channel_is_a_region(name):
    loss = LOSSES[name](sigmoid=True)
    x, y = logits((2, 1, 5, 6, 4)), labels(classes=2)
    maps = torch.randn(2, 1, 5, 6, 4)
    assert loss(x, torch.cat([y, maps], 1) if loss.takes_maps else y).isfinite()
    with pytest.raises(ValueError, match="one channel has no softmax"):
        LOSSES[name]()(x, y)


@every
def test_what_does_not_fit_is_named(name):
    loss, x = LOSSES[name](), logits()
    with pytest.raises(ValueError, match=r"do not lie on one grid"):
        loss(x, with_maps(loss, labels((2, 1, 5, 6, 5))))
    with pytest.raises(ValueError, match=r"target of \d channels for 3 of logits: wanted 1 or 3"):
        loss(x, torch.zeros(2, 2 + 2 * loss.takes_maps, 5, 6, 4))
    if name != "boundary":  # it needs no truth, its maps hold it
        with pytest.raises(
            ValueError, match=r"labels from 0 to 7 for 3 channels; give classes 0 to 2, and ignore_index"
        ):
            loss(x, with_maps(loss, torch.where(labels() == 2, 7.0, labels())))
        with pytest.raises(ValueError, match=r"each of its 3 channels holds shares from 0 to 1"):
            loss(x, with_maps(loss, 2 * onehot(labels())))
    if loss.takes_maps:
        with pytest.raises(ValueError, match=r"behind it 2 distance maps \(medseg.transforms.DistanceMapsd\)"):
            loss(x, labels())
