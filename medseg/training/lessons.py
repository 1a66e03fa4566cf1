"""More to learn from than labels: teachers and cases that nobody labelled, as overrides of a bundle's train.json.

Both wrap the recipe's loss and stand behind the label in the target (see `targets`), so any recipe with a `loss` or a
`base_loss` can take them, alone or together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.errors import UsageError
from medseg.training.distil import teacher_for
from medseg.training.self_training import with_pseudo_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def lessons(
    config: Mapping[str, Any],
    student: Path,
    *,
    teachers: Sequence[str] = (),
    pseudo: Path | None = None,
    temperature: float = 2.0,
    teacher_weight: float = 0.5,
    pseudo_weight: float = 0.5,
) -> dict[str, Any]:
    """Overrides of train.json, {} where there is nothing but labels.

    Args:
        config: train.json, with what the user has chosen already (`base_loss`).
        student: the bundle that learns.
        teachers: bundles, see `Teacher`.
        pseudo: a predict OUT of unlabelled cases, see `pseudo_labels`.
        temperature: of the teacher's and the student's probabilities.
        teacher_weight: see `DistillationLoss`.
        pseudo_weight: see `CertaintyLoss`.

    Raises:
        UsageError: MS-T175 the recipe has no loss that could be wrapped, or learns instances; MS-T173 see `teacher_for`.
        BundleError: see `teacher_for`.
        InputError: see `pseudo_labels`.
    """
    if not teachers and pseudo is None:
        return {}
    key = next((name for name in ("base_loss", "loss") if config.get(name) is not None), None)
    train = config.get("train") or {}
    if key is None or "prepare_batch" in (train.get("trainer") or {}) or "deterministic_transforms" not in train:
        raise UsageError(
            "MS-T175",
            "--teacher and --pseudo need a recipe with `loss` or `base_loss`, `train#deterministic_transforms` and one "
            "label map a case",
            mend="use a recipe that segments, such as one that medseg plan makes",
        )
    loss, more = config[key], {}
    prepare: dict[str, Any] = {"_target_": "medseg.training.Targets"}
    if pseudo is not None:
        more |= with_pseudo_labels(config, pseudo)
        loss = {"_target_": "medseg.training.CertaintyLoss", "loss": loss, "weight": pseudo_weight}
        prepare["doubt"] = True
    if teachers:
        prepare["teacher"] = teacher = teacher_for(student, teachers, temperature)
        loss = {
            "_target_": "medseg.training.DistillationLoss",
            "loss": loss,
            "weight": teacher_weight,
            "temperature": temperature,
            "sigmoid": teacher["sigmoid"],
        }
    return {**more, key: loss, "train#trainer#prepare_batch": prepare}
