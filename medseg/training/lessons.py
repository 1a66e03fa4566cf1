"""More to learn from than labels: teachers and cases that nobody labelled, as overrides of a bundle's train.json.

Both wrap the recipe's loss and stand behind the label in the target (see `targets`), so any recipe with a `loss` or a
`base_loss` can take them, alone or together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import UsageError
from medseg.training.distil import teacher_for
from medseg.training.self_training import with_pseudo_labels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Of a recipe with a locator; what it prepares is made by another.
_LOCATED = "medseg.training.LocatedBatch"


@dataclass(frozen=True)
class Lessons:
    """What there is to learn from beside labels.

    Args:
        teachers: bundles, see `Teacher`.
        temperature: of the teacher's and the student's probabilities.
        teacher_weight: share of the loss, see `DistillationLoss`.
        pseudo: a predict OUT of unlabelled cases, see `pseudo_labels`.
        pseudo_weight: of such a case beside a labelled one, see `CertaintyLoss`.

    Raises:
        UsageError: MS-T176 a number that makes no sense.
    """

    teachers: tuple[str, ...] = ()
    temperature: float = 2.0
    teacher_weight: float = 0.5
    pseudo: Path | None = None
    pseudo_weight: float = 0.5

    def __post_init__(self) -> None:
        wrong = (
            ("--temperature", self.temperature, "above 0", self.temperature > 0),
            ("--teacher-weight", self.teacher_weight, "a share from 0 to 1", 0 <= self.teacher_weight <= 1),
            ("--pseudo-weight", self.pseudo_weight, "at least 0", self.pseudo_weight >= 0),
        )
        for option, value, wanted, fine in wrong:
            if not fine:
                raise UsageError("MS-T176", f"{option} {value:g}", mend=f"give {option} a number that is {wanted}")


def taught(config: Mapping[str, Any], student: Path, lessons: Lessons) -> dict[str, Any]:
    """Overrides of train.json, {} where there is nothing but labels.

    Args:
        config: train.json, with what the user has chosen already (`base_loss`).
        student: the bundle that learns.
        lessons: what from.

    Raises:
        UsageError: MS-T175 the recipe has no loss that could be wrapped, or learns instances; MS-T173 see `teacher_for`.
        BundleError: see `teacher_for`.
        InputError: see `pseudo_labels`.
    """
    if not lessons.teachers and lessons.pseudo is None:
        return {}
    key = next((name for name in ("base_loss", "loss") if config.get(name) is not None), None)
    train = config.get("train") or {}
    own = (train.get("trainer") or {}).get("prepare_batch")
    located = own == {"_target_": _LOCATED}
    if key is None or (own is not None and not located) or "deterministic_transforms" not in train:
        raise UsageError(
            "MS-T175",
            "--teacher and --pseudo need a recipe with `loss` or `base_loss`, `train#deterministic_transforms` and one "
            "label map a case",
            mend="use a recipe that segments, such as one that medseg plan makes",
        )
    loss, more = config[key], {}
    prepare: dict[str, Any] = {"_target_": "medseg.training.Targets"}
    if lessons.pseudo is not None:
        more |= with_pseudo_labels(config, lessons.pseudo)
        loss = {"_target_": "medseg.training.CertaintyLoss", "loss": loss, "weight": lessons.pseudo_weight}
        prepare["doubt"] = True
    if lessons.teachers:
        prepare["teacher"] = teacher = teacher_for(student, lessons.teachers, lessons.temperature)
        loss = {
            "_target_": "medseg.training.DistillationLoss",
            "loss": loss,
            "weight": lessons.teacher_weight,
            "temperature": lessons.temperature,
            "sigmoid": teacher["sigmoid"],
        }
    if located:  # the locator's overview stays beside it
        prepare = {"_target_": _LOCATED, "prepare": prepare}
    return {**more, key: loss, "train#trainer#prepare_batch": prepare}
