"""Losses forward and backward at 128^3, two classes and a background, against MONAI's.

Distances: MONAI's losses compute their maps at every step. medseg's come with the case, so a step only multiplies;
beside it stand rows in which a step pays for the maps too (as if a case were seen once and never again), and the
two-sided Hausdorff loss, which measures the prediction's distances at every step as MONAI's does. Where the definitions
touch (voxels of 1 mm) the values are compared before anything is timed: the Hausdorff loss's and clDice's are equal,
the boundary loss's differs by the mean probability inside (see `medseg.losses.BoundaryLoss`).
"""

from __future__ import annotations

import math

import torch
from interleaved import timed
from monai.losses import BoundaryLoss as MonaiBoundaryLoss
from monai.losses import FocalLoss as MonaiFocalLoss
from monai.losses import HausdorffDTLoss, SoftclDiceLoss
from scipy.ndimage import gaussian_filter

from medseg.losses import BoundaryLoss, ClDiceLoss, FocalLoss, HausdorffLoss
from medseg.transforms import DistanceMapsd


def rows(quick: bool = False) -> list[dict]:
    n, repeats = (32, 1) if quick else (128, 5)
    logits, label = batch(n)
    maps = DistanceMapsd("label", [1, 2], spacing_mm=(1, 1, 1))
    target = torch.cat([label, maps({"label": label[0]})["distances"][None]], 1)
    foreground = {"softmax": True, "to_onehot_y": True, "include_background": False}
    monai = {
        "boundary": MonaiBoundaryLoss(**foreground),
        "Hausdorff": HausdorffDTLoss(**foreground),
        "clDice": SoftclDiceLoss(**foreground, smooth=1e-12),
        "focal": MonaiFocalLoss(to_onehot_y=True, use_softmax=True),
    }
    two_sided = HausdorffLoss(spacing_mm=(1, 1, 1))
    agree(logits, label, target, monai, two_sided)

    def with_maps(loss):
        return lambda: step(loss, logits, torch.cat([label, maps({"label": label[0]})["distances"][None]], 1))

    ways = [
        ("boundary", "", lambda: step(BoundaryLoss(), logits, target)),
        ("boundary", ", maps at every step", with_maps(BoundaryLoss())),
        ("Hausdorff", ", one-sided", lambda: step(HausdorffLoss(), logits, target)),
        ("Hausdorff", ", two-sided", lambda: step(two_sided, logits, target)),
        ("Hausdorff", ", two-sided, maps at every step", with_maps(two_sided)),
        ("clDice", "", lambda: step(ClDiceLoss(), logits, label)),
        ("focal", "", lambda: step(FocalLoss(), logits, label)),
    ]
    out = []
    for name, how, ours in ways:
        theirs = {"MONAI": lambda name=name: step(monai[name], logits, label)}
        out += timed(f"{name}{how}, {n}^3, {torch.get_num_threads()} threads", {"medseg": ours} | theirs, repeats)
    return out


def batch(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (1, 3, n, n, n) and a label map of two lumpy structures that the logits find all but exactly."""
    rng = torch.Generator().manual_seed(0)
    fields = [gaussian_filter(torch.randn(n, n, n, generator=rng).numpy(), n / 12) for _ in range(2)]
    a, b = (torch.from_numpy(f / f.std()) for f in fields)
    label = torch.where(a > 1, 1.0, torch.where(b > 1.5, 2.0, 0.0))
    noise = torch.randn(3, n, n, n, generator=rng)
    logits = 6 * torch.stack([label == c for c in range(3)]).float() + noise
    return logits[None], label[None, None]


def step(loss, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    x = logits.clone().requires_grad_()
    loss(x, target).backward()
    return x.grad


def agree(logits, label, target, monai, two_sided) -> None:
    inside = sum((logits.softmax(1)[:, c] * (label[:, 0] == c)).mean() for c in (1, 2)) / 2
    pairs = {
        "boundary": BoundaryLoss()(logits, target) + inside,
        "Hausdorff": two_sided(logits, target),
        "clDice": sum(
            ClDiceLoss(weight=[0, c == 1, c == 2])(logits, label) for c in (1, 2)
        ) / 2,
        "focal": FocalLoss()(logits, label) / 3,
    }  # fmt: skip
    probs = logits.softmax(1)
    each = [SoftclDiceLoss(smooth=1e-12)(probs[:, c : c + 1], (label == c).float()) for c in (1, 2)]
    theirs = {name: loss(logits, label) for name, loss in monai.items()} | {"clDice": sum(each) / 2}
    for name, value in pairs.items():
        if not math.isclose(value, theirs[name], rel_tol=1e-3):
            raise SystemExit(f"medseg and MONAI disagree about {name}: {value} and {theirs[name]}")
