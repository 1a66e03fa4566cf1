"""Self-training: cases that nobody labelled teach by what a model said of them, as far as it was certain.

`medseg predict --uncertainty ... UNLABELLED -o OUT` leaves a label map and its entropy for each case. These cases join the
labelled ones. Each of their voxels counts by 1 - entropy (in units of ln C), and the case as a whole by the mean of
that inside the structures found. What somebody has corrected in OUT since counts like any label (Lee, ICML workshop
2013; Yu et al., MICCAI 2019, for weights by uncertainty).
"""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from monai.transforms import MapTransform
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.losses import CompoundLoss, CrossEntropyLoss, FocalTverskyLoss
from medseg.losses.pair import Pair, PairLoss
from medseg.reports.case_view import map_file
from medseg.training.region_loss import RegionLoss
from medseg.training.scan_again import scan_again
from medseg.training.targets import DOUBT
from medseg.transforms.regions import to_regions
from medseg.writers.atomic import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

#: Arguments of MONAI's transforms that have one value for each key.
_PER_KEY = ("mode", "padding_mode", "align_corners", "dtype")
#: Transforms that read a file: of a labelled case there is no doubt to read.
_READING = ("LoadImaged", "EnsureChannelFirstd")
_SEGMENTATION, _RECORD = "segmentation.nii.gz", "record.json"


def pseudo_labels(out: Path, structures: Mapping[int, str] | None = None) -> list[dict[str, Any]]:
    """The cases of a predict OUT as MONAI's data list.

    Args:
        out: folder of a run of `medseg predict --uncertainty`.
        structures: value -> name, that the labels must agree with; None: they are not compared.

    Returns:
        `{"image": path or paths, "label": path, "doubt": path}`, ordered by name; without "doubt" where somebody edited
        the segmentation. Cases marked as outside the training domain are left out.

    Raises:
        InputError: MS-T180 no predicted case; MS-T181 one without an uncertainty map; MS-T182 its scan is not where it
            was; MS-T183 it has other structures.
    """
    found, outside = [], 0
    for path in sorted([*out.glob(f"*/{_RECORD}"), *out.glob(f"details/*/{_RECORD}")]):
        record = _read(path)
        if record is None:
            continue
        if record.get("outside_domain"):
            outside += 1
            continue
        found.append(_case(out, path.parent, record, structures))
    if not found:
        raise InputError(
            "MS-T180",
            f"no predicted case inside the training domain{f' ({outside} outside it)' if outside else ''}",
            file=out,
            mend="give --pseudo the folder that medseg predict --uncertainty mc:20 UNLABELLED -o OUT has made",
        )
    if outside:
        logging.getLogger(__name__).warning("%d predicted cases are left out: outside the training domain", outside)
    return found


class WithPseudoLabels(list):
    """Labelled cases, and behind them those of a predict OUT: MONAI's data list.

    Args:
        labelled: data list of the labelled cases.
        folder: see `pseudo_labels`.
    """

    def __init__(self, labelled: Sequence[Mapping[str, Any]], folder: str) -> None:
        super().__init__([*labelled, *pseudo_labels(Path(folder))])


class NoDoubtd(MapTransform):
    """No doubt (0 everywhere) for cases that have no map of it: somebody drew their labels.

    Args:
        keys: of the map.
        like: key of the label, on whose grid it lies.
    """

    def __init__(self, keys: str = DOUBT, like: str = "label") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.like = like

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """See the class."""
        made = dict(data)
        for key in self.keys:
            if key not in made:
                made[key] = torch.zeros_like(made[self.like], dtype=torch.float32)
        return made


class CertaintyLoss(nn.Module):
    """The recipe's loss for drawn labels; for a model's labels each voxel counts by its certainty.

    Where the recipe's loss is one of `medseg.losses` it is that loss with weights; MONAI's take none, and Dice with
    cross-entropy stands in for them. The result is the mean over the batch's cases, a case with doubt counting
    `weight` times the mean certainty inside its structures.

    Args:
        loss: of logits (B, K, ...) and a label map.
        weight: of cases that nobody labelled, beside 1 of the labelled.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], weight: float = 0.5) -> None:
        super().__init__()
        if weight < 0:
            msg = f"a weight is at least 0, got {weight}"
            raise ValueError(msg)
        self.loss = loss
        self.weight = weight
        self.regions = loss.regions if isinstance(loss, RegionLoss) else None
        self.weighted = _weighable(loss.loss if isinstance(loss, RegionLoss) else loss)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 - MONAI's name
        """Logits (B, K, ...) and a target whose last channel is the doubt in [0, 1] -> a scalar."""
        label, certainty = target[:, :-1], 1 - target[:, -1:].float().clamp(0, 1)
        drawn = (certainty == 1).flatten(1).all(1)
        count = int(drawn.sum())
        total = count * self.loss(input[drawn], label[drawn]) if count else input.new_zeros(())
        weights = torch.full((count,), 1.0, device=input.device)
        for logits, said, sure in zip(input[~drawn], label[~drawn], certainty[~drawn], strict=True):
            share = self.weight * _inside(self._foreground(logits, said), sure)
            total = total + share * self._of_one(logits[None], said[None], sure[None])
            weights = torch.cat([weights, share.reshape(1)])
        return total / weights.sum().clamp(min=torch.finfo(torch.float32).tiny)

    def _foreground(self, logits: Tensor, label: Tensor) -> Tensor:
        """(1, ...) where a case has a structure: its label map is not 0, or shares of annotators are not all background's."""
        if len(label) != len(logits) or len(label) == 1 or self.weighted.takes_maps:
            return label[:1] > 0
        return (label if self.weighted.sigmoid else label[1:]).amax(0, keepdim=True) > 0

    def _of_one(self, logits: Tensor, label: Tensor, certainty: Tensor) -> Tensor:
        if self.regions is not None:
            label = to_regions(label, self.regions, axis=1)
        with torch.autocast(logits.device.type, enabled=False):
            pair = self.weighted.pair(logits, label)
            told = _Weighted(pair.logits, pair.target, pair.sigmoid, None, pair.maps, pair.classes, certainty)
            return self.weighted.of(told)


@dataclass(frozen=True, eq=False)
class _Weighted(Pair):
    """A pair of which every voxel is known to some degree; `certainty` is (B, 1, ...)."""

    certainty: Tensor | None = None

    @cached_property
    def known(self) -> Tensor | None:
        return None if self.certainty is None else self.certainty.to(self.logits.dtype)


def with_pseudo_labels(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Overrides of train.json that bring the cases of a predict OUT and their doubt as far as the batch.

    Args:
        config: train.json.
        folder: see `pseudo_labels`.

    Raises:
        InputError: see `pseudo_labels`.
    """
    labels = config.get("labels") or ()
    pseudo_labels(folder, {int(row["value"]): str(row["name"]) for row in labels if "value" in row} or None)
    train = config["train"]
    steps = [_with_doubt(step) for step in train["deterministic_transforms"]]
    last = max((n for n, step in enumerate(steps) if _name(step) in _READING), default=-1)
    steps.insert(last + 1, {"_target_": "medseg.training.NoDoubtd"})
    return {
        "train#deterministic_transforms": steps,
        "train#random_transforms": [_with_doubt(step) for step in train.get("random_transforms", ())],
        "train#dataset#data": {
            "_target_": "medseg.training.WithPseudoLabels",
            "labelled": deepcopy(train["dataset"]["data"]),
            "folder": str(folder.resolve()),
        },
    }


def _with_doubt(step: Any) -> Any:
    """A transform that moves labels moves their doubt in the same way."""
    keys = step.get("keys") if isinstance(step, dict) else None
    if not isinstance(keys, list) or "label" not in keys or "image" not in keys:
        return deepcopy(step)
    changed = deepcopy(step) | {"keys": [*keys, DOUBT]}
    for name in _PER_KEY:
        if isinstance(value := step.get(name), list) and len(value) == len(keys):
            changed[name] = [*value, value[keys.index("image")]]
    if _name(step) in _READING:
        changed["allow_missing_keys"] = True
    return changed


def _name(step: Any) -> str:
    return str(step.get("_target_", "")).rsplit(".", 1)[-1] if isinstance(step, dict) else ""


def _weighable(loss: Any) -> PairLoss:
    """The loss itself where it can weight voxels, else Dice with cross-entropy of the same kind of channels."""
    if isinstance(loss, PairLoss) and all(isinstance(one, PairLoss) for one in getattr(loss, "losses", ())):
        return loss
    sigmoid = bool(getattr(loss, "sigmoid", False))
    dice = FocalTverskyLoss(0.5, 0.5, 1.0, sigmoid=sigmoid)
    return CompoundLoss([dice, CrossEntropyLoss(sigmoid=sigmoid)])


def _inside(foreground: Tensor, certainty: Tensor) -> Tensor:
    """Mean certainty inside the structures of one case, of all voxels where it has none."""
    inside = foreground.to(certainty.dtype)
    held = inside.sum()
    return torch.where(held > 0, (certainty * inside).sum() / held.clamp(min=1), certainty.mean())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("status") == "done" and "outputs" in record else None


def _case(out: Path, folder: Path, record: Mapping[str, Any], structures: Mapping[int, str] | None) -> dict[str, Any]:
    flat = folder.parent.name == "details" and (out / f"{folder.name}.nii.gz").is_file()
    label = out / f"{folder.name}.nii.gz" if flat else folder / _SEGMENTATION
    if structures is not None:
        found = {int(row["value"]): str(row["structure"]) for row in record.get("measurements", ())}
        unlike = [f"{value} is {name}" for value, name in found.items() if structures.get(value) != name]
        if unlike:
            raise InputError(
                "MS-T183",
                f"its label {unlike[0]}, which the bundle that is trained calls {structures.get(int(unlike[0].split()[0]))!r}",
                file=label,
                mend="predict with a bundle of the same structures",
            )
    case: dict[str, Any] = {"image": scan_again(folder, record, (Path.cwd(), out.parent)), "label": str(label)}
    if not label.is_file() or sha256(label) != record["outputs"].get(_SEGMENTATION):
        return case if label.is_file() else _gone(label)
    doubt = folder / map_file("entropy")
    if not doubt.is_file():
        raise InputError(
            "MS-T181",
            "nothing says how certain the model was of this case",
            file=folder,
            mend="predict again with --uncertainty mc:20 (or ensemble, tta)",
        )
    return case | {DOUBT: str(doubt)}


def _gone(path: Path) -> Any:
    raise InputError("MS-T182", "this file is not there any more", file=path, mend="put it back, or predict again")
