"""Which loss, by imbalance and shape.

Dice with cross-entropy is the rule (Isensee et al., 2021; on the hippocampus 0.880 against 0.874 with Tversky, see that
bundle's card). Where the smallest structure is next to nothing in a patch, its voxels drown in the cross-entropy of easy
background, and a focal term takes its place (Lin et al., ICCV 2017). Thin tubes lose whole branches for few voxels, so the
agreement of centre lines counts too (clDice: Shit et al., CVPR 2021). For regions each channel is a question of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.training.plan.choice import Choice
from medseg.transforms.shares import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.plan.classes import Classes
    from medseg.training.plan.look import Facts

#: Share of a patch below which a structure counts as next to nothing.
RARE = 5e-4
#: Radius in voxels of the network's grid up to which a tube is thin.
THIN = 2.5
#: Centre lines are computed for every structure: only for so few, and where half of them are thin tubes.
_FEW = 8
_SHOWN = 5
#: Erosions of clDice at most; each costs time in every step.
_MOST_ITERATIONS = 5


@dataclass(frozen=True)
class LossChoice:
    """What train.json says of the loss.

    Args:
        losses: by name, as `medseg train --loss` takes them.
        base: the one that is used.
        choice: what and why.
        thin_tubes: names of structures that are thin tubes.
    """

    losses: dict[str, dict[str, Any]]
    base: str
    choice: Choice
    thin_tubes: tuple[str, ...] = ()


def loss_for(
    facts: Sequence[Facts],
    classes: Classes,
    spacing_mm: Sequence[float],
    patch: Sequence[int],
    *,
    soft: bool = False,
) -> LossChoice:
    """Choose a loss.

    Args:
        facts: of the training cases.
        classes: what the network says.
        spacing_mm: of the network's grid.
        patch: voxels.
        soft: targets are shares of annotators, a channel a class.
    """
    shares = _shares(facts, classes, spacing_mm, patch)
    thin = _thin_tubes(facts, classes, spacing_mm)
    rarest = min(shares, key=lambda name: shares[name])
    rare = shares[rarest] < RARE
    losses = _losses(
        bool(classes.regions), _iterations(facts, classes, thin, spacing_mm), _ignored(classes, soft), soft
    )
    lines = bool(thin) and 2 * len(thin) >= len(classes.table) and len(classes.table) <= _FEW
    base = "dice_cldice" if lines else "dice_focal" if rare else "dice_ce"
    if classes.regions and not soft:
        losses = {name: _of_regions(loss, classes) for name, loss in losses.items()}
    why = f"the smallest structure, {rarest}, is {100 * shares[rarest]:.2g} % of a patch around it"
    why += f", {'below' if rare else 'above'} {100 * RARE:g} %"
    if thin:
        shown = ", ".join(thin[:_SHOWN]) + (f" and {len(thin) - _SHOWN} more" if len(thin) > _SHOWN else "")
        why += f"; thin tubes (at most {THIN:g} voxels in radius): {shown}"
        why += (
            ""
            if lines
            else f", too few among {len(classes.table)} structures for the time that their centre lines take"
        )
    return LossChoice(losses, base, Choice("loss", _NAMES[base], why), thin)


_NAMES = {
    "dice_ce": "Dice + cross-entropy",
    "dice_focal": "Dice + focal loss (gamma 2)",
    "dice_cldice": "Dice + cross-entropy + half of clDice",
}


def _ignored(classes: Classes, soft: bool) -> int | None:
    """`ignore_index`: the value in a label map, else the mark in channels of regions and shares."""
    if soft or (classes.regions and classes.ignore is not None):
        return int(UNKNOWN)
    return classes.ignored


def _losses(sigmoid: bool, radius: int, ignored: int | None, soft: bool) -> dict[str, dict[str, Any]]:
    """By name; MONAI's own where they are sound for this kind of output and target: none of them ignores voxels."""
    how: dict[str, Any] = ({"sigmoid": True} if sigmoid else {}) | (
        {} if ignored is None else {"ignore_index": ignored}
    )
    counted = how | ({"include_background": True} if sigmoid else {})
    plain = {"to_onehot_y": True, "softmax": True, "include_background": False} if not sigmoid else {"sigmoid": True}
    dice = {
        "_target_": "medseg.losses.FocalTverskyLoss",
        "alpha": 0.5,
        "beta": 0.5,
        "gamma": 1.0,
        "batch": True,
        **counted,
    }
    entropy = {"_target_": "medseg.losses.CrossEntropyLoss", **how}
    focal = {"_target_": "medseg.losses.FocalLoss", "gamma": 2.0, **how}
    tubes = {"_target_": "medseg.losses.ClDiceLoss", "iterations": radius, **counted}
    compound = "medseg.losses.CompoundLoss"
    own = sigmoid or soft or ignored is not None
    dice_ce = (
        {"_target_": compound, "losses": [dice, entropy]} if own else {"_target_": "DiceCELoss", **plain, "batch": True}
    )
    return {
        "dice_ce": dice_ce,
        "dice_focal": {"_target_": compound, "losses": [dice, focal]},
        "dice_cldice": {"_target_": compound, "losses": [dice, entropy, tubes], "weights": [1.0, 1.0, 0.5]},
        "tversky": dice | {"alpha": 0.4, "beta": 0.6}
        if soft or ignored is not None
        else {"_target_": "TverskyLoss", **plain, "batch": True, "alpha": 0.4, "beta": 0.6},
    }


def _iterations(facts: Sequence[Facts], classes: Classes, thin: Sequence[str], spacing_mm: Sequence[float]) -> int:
    """Of clDice's skeleton: the radius in voxels, within sensible bounds."""
    return min(max(1, int(np.ceil(_radius(facts, classes, thin) / min(spacing_mm)))), _MOST_ITERATIONS)


def _of_regions(loss: dict[str, Any], classes: Classes) -> dict[str, Any]:
    return {
        "_target_": "medseg.training.RegionLoss",
        "loss": loss,
        "regions": [list(parts) for parts in classes.regions],
        **({} if classes.ignore is None else {"ignore": classes.ignore}),
    }


def _radius(facts: Sequence[Facts], classes: Classes, names: Sequence[str]) -> float:
    """Largest median radius of these structures, or of all where there are none, mm."""
    rows = [row for row in classes.table if row.name in names or not names]
    radii = [
        [one.forms[v].radius_mm for one in facts for v in (row.region or (row.value,)) if v in one.forms]
        for row in rows
    ]
    return max((float(np.median(each)) for each in radii if each), default=0.0)


def _shares(
    facts: Sequence[Facts], classes: Classes, spacing_mm: Sequence[float], patch: Sequence[int]
) -> dict[str, float]:
    """Structure -> median share of a patch that it would fill, over the cases that have it."""
    patch_mm3 = prod(patch) * prod(spacing_mm)
    out = {}
    for row in classes.table:
        parts = row.region or (row.value,)
        volumes = [sum(sum(one.forms[v].pieces_ml) for v in parts if v in one.forms) * 1000.0 for one in facts]
        held = [v for v in volumes if v > 0]
        if held:
            out[row.name] = min(float(np.median(held)) / patch_mm3, 1.0)
    return out


def _thin_tubes(facts: Sequence[Facts], classes: Classes, spacing_mm: Sequence[float]) -> tuple[str, ...]:
    finest = min(spacing_mm)
    out = []
    for row in classes.table:
        forms = [one.forms[v] for one in facts for v in (row.region or (row.value,)) if v in one.forms]
        thin = [form.tube and form.radius_mm <= THIN * finest for form in forms]
        if thin and float(np.mean(thin)) > 0.5:
            out.append(row.name)
    return tuple(out)
