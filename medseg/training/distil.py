"""Distillation: a small student learns the probabilities of a large teacher beside the labels (Hinton et al., 2015).

Where two structures meet, a teacher says how near a voxel was to being the other; a label map does not. The teacher sees
what the student sees, the augmented patch, so its answer fits whatever was done to it. Several teachers, such as the
members of an ensemble, are averaged as probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from medseg.bundle.config import read_config
from medseg.bundle.described import read_channels, read_labels
from medseg.bundle.load import load_bundle
from medseg.bundle.shipped import find_bundle
from medseg.bundle.weights import require_weights
from medseg.errors import BundleError, UsageError
from medseg.inferers.outputs import full_resolution
from medseg.inferers.precision import has_native_bf16
from medseg.losses import CrossEntropyLoss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

#: Transforms that read files and change nothing.
_FILES = ("LoadImaged", "EnsureChannelFirstd")


class Teacher:
    """Trained networks, asked for probabilities.

    Args:
        bundles: folders or shipped names; all members of an ensemble are asked.
        temperature: by which logits are divided: above 1 it shows what lies behind the likeliest class.
        sigmoid: the channels are regions, not classes.
        device: where they compute.

    Raises:
        BundleError: one cannot be loaded.
    """

    def __init__(
        self,
        bundles: Sequence[str],
        temperature: float = 2.0,
        *,
        sigmoid: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        loaded = [load_bundle(name, device=device) for name in bundles]
        self.networks = tuple(network for bundle in loaded for network in (bundle.members() or (bundle.network,)))
        self.temperature = temperature
        self.sigmoid = sigmoid
        for network in self.networks:
            network.requires_grad_(False)

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, D, H, W) -> probabilities (B, K, D, H, W), float32, without a gradient.

        In bfloat16 where the device has it. Images that a network's `divisor` does not divide are filled up.
        """
        total: Tensor | None = None
        with (
            torch.no_grad(),
            torch.autocast(images.device.type, torch.bfloat16, enabled=has_native_bf16(images.device)),
        ):
            for network in self.networks:
                logits = _asked(network.eval(), images) / self.temperature
                probabilities = logits.sigmoid() if self.sigmoid else logits.softmax(1)
                total = probabilities if total is None else total + probabilities
        if total is None:
            raise UsageError("MS-T173", "no teacher was named", mend="give --teacher BUNDLE")
        return total / len(self.networks)


class DistillationLoss(nn.Module):
    """(1 - w) loss of the labels + w T^2 KL(teacher || student), both at temperature T.

    T^2 keeps the gradient's size, which falls as 1 / T^2. Inside MONAI's DeepSupervisionLoss each resolution is
    compared with the teacher's voxels there.

    Args:
        loss: of logits and the label.
        weight: w in [0, 1].
        temperature: T, the teacher's.
        sigmoid: the channels are regions; the divergence is then the mean over regions.
    """

    def __init__(
        self,
        loss: Callable[[Tensor, Tensor], Tensor],
        weight: float = 0.5,
        temperature: float = 2.0,
        *,
        sigmoid: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= weight <= 1 or temperature <= 0:
            msg = f"weight lies in [0, 1] and temperature above 0, got {weight} and {temperature}"
            raise ValueError(msg)
        self.loss = loss
        self.weight = weight
        self.temperature = temperature
        self.soft = CrossEntropyLoss(sigmoid=sigmoid)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 - MONAI's name
        """Logits (B, K, ...) and a target whose last K channels are the teacher's probabilities -> a scalar."""
        classes = input.shape[1]
        if target.shape[1] <= classes:
            msg = f"a target of {target.shape[1]} channels has no label before the teacher's {classes}"
            raise ValueError(msg)
        label, told = target[:, :-classes], target[:, -classes:].float()
        logits = input.float()
        divergence = self.soft(logits / self.temperature, told) - entropy(told, sigmoid=self.soft.sigmoid)
        return (1 - self.weight) * self.loss(input, label) + self.weight * self.temperature**2 * divergence


def entropy(probabilities: Tensor, *, sigmoid: bool = False) -> Tensor:
    """Mean entropy of (B, K, ...): over voxels, and with `sigmoid` over regions too; nats."""
    if not sigmoid:
        return -torch.special.xlogy(probabilities, probabilities).sum(1).mean()
    return torch.special.entr(probabilities).add(torch.special.entr(1 - probabilities)).mean()


def teacher_for(student: Path, teachers: Sequence[str], temperature: float = 2.0) -> dict[str, Any]:
    """`Teacher` as a component of the student's train.json.

    Args:
        student: folder of the bundle that is to learn.
        teachers: bundles.
        temperature: see `Teacher`.

    Raises:
        UsageError: MS-T173 no teacher, or one that finds instances.
        BundleError: MS-T174 a teacher says other classes or looks at images otherwise; others for one without weights.
    """
    own = _described(student)
    regions = False
    for name in teachers:
        root = find_bundle(name)
        require_weights(root)
        if "detector" in (theirs := read_config(root, "inference")) or _finds_instances(theirs):
            what = f"{root.name} finds instances, and only label maps can be taught"
            raise UsageError("MS-T173", what, mend="give --teacher a bundle that segments")
        for what, mine, other in zip(_COMPARED, own, _described(root), strict=True):
            if mine != other:
                raise BundleError(
                    "MS-T174",
                    f"this teacher has other {what} than the student: {_brief(other)} instead of {_brief(mine)}",
                    file=root,
                    mend=f"train a student whose recipe has the same {what}, such as a copy of the teacher's with fewer features",
                )
        regions = (theirs.get("inferer") or {}).get("regions") is not None
    if not teachers:
        raise UsageError("MS-T173", "no teacher was named", mend="give --teacher BUNDLE")
    return {
        "_target_": "medseg.training.Teacher",
        "bundles": [str(find_bundle(name)) for name in teachers],
        "temperature": temperature,
        "sigmoid": regions,
        "device": "@device",
    }


_COMPARED = ("channels", "structures", "preprocessing")


def _described(root: Path) -> tuple[Any, ...]:
    """What student and teacher must share, see `_COMPARED`."""
    config, metadata = read_config(root, "inference"), read_config(root, "metadata")
    labels = [(row.value, row.name, row.region) for row in read_labels(config, metadata, root)]
    preprocessing = config.get("preprocessing") or {}
    steps = preprocessing.get("transforms") or [] if isinstance(preprocessing, dict) else preprocessing
    kept = [step for step in steps if str(step.get("_target_", "")).rsplit(".", 1)[-1] not in _FILES]
    return tuple(read_channels(config, metadata, root)), labels, kept


def _finds_instances(config: Mapping[str, Any]) -> bool:
    return str((config.get("inferer") or {}).get("_target_", "")).endswith("InstanceInferer")


def _brief(value: Any, most: int = 120) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}..."


def _asked(network: nn.Module, images: Tensor) -> Tensor:
    """A network's logits at full resolution, float32."""
    sizes = images.shape[2:]
    behind = [-n % d for n, d in zip(sizes, getattr(network, "divisor", (1, 1, 1)), strict=True)]
    filled = pad(images, [n for size in behind[::-1] for n in (0, size)], mode="replicate") if any(behind) else images
    logits = full_resolution(network(filled), filled).float()
    return logits[..., : sizes[0], : sizes[1], : sizes[2]]
