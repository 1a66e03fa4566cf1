"""What `medseg train` was asked for, as overrides of a bundle's train.json: `id -> value`, as MONAI's command line takes.

Each group of options is one function from (config, asked) to overrides, listed in `GROUPS`: a new option is a field of
`Asked` and a line there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.bundle.config import read_config
from medseg.errors import UsageError
from medseg.training.lessons import lessons
from medseg.training.ranks import launched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: With `minutes` the schedule ends the run; no run has so many epochs.
ENDLESS = 1_000_000
#: The handler that can go on.
CHECKPOINTS = "medseg.training.Checkpoints"


@dataclass(frozen=True)
class Asked:
    """The options of one run.

    Args:
        data: the labelled cases.
        out: folder of the run.
        minutes: budget in minutes.
        epochs: budget in epochs.
        loss: one of the bundle's `losses`.
        resume: go on from the last checkpoint.
        bundle: folder of the recipe.
        freeze: parts of the network that stay as they are.
        thaw: share of the budget after which they learn too; None: never.
        teachers: bundles whose probabilities are learnt beside the labels.
        pseudo: a predict OUT of unlabelled cases.
    """

    data: Path
    out: Path
    minutes: float | None = None
    epochs: int | None = None
    loss: str | None = None
    resume: bool = False
    bundle: Path | None = None
    freeze: tuple[str, ...] = ()
    thaw: float | None = None
    teachers: tuple[str, ...] = ()
    pseudo: Path | None = None


def overrides_of(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """Every override of train.json.

    Args:
        config: train.json of the bundle.
        asked: the options.

    Raises:
        UsageError: MS-T106 the bundle has no such loss, MS-T172 `thaw` without `freeze`; others see `lessons`.
    """
    found: dict[str, Any] = {}
    for group in GROUPS:
        found |= group({**config, **found}, asked)
    return found


def _places(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    del config
    return {"dataset_dir": str(asked.data), "output_dir": str(asked.out / "models")}


def _budget(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    del config
    if asked.minutes is not None:
        return {"minutes": asked.minutes, "epochs": ENDLESS}
    return {} if asked.epochs is None else {"epochs": asked.epochs}


def _loss(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    if asked.loss is None:
        return {}
    if asked.loss not in config.get("losses", {}):
        known = ", ".join(config.get("losses", {})) or "none"
        raise UsageError("MS-T106", f"this bundle has no loss {asked.loss!r}", mend=f"choose one of: {known}")
    return {"base_loss": f"@losses#{asked.loss}"}


def _ranks(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """Where torchrun started several processes: the bundle's own overlay for them."""
    del config
    if launched()[1] == 1 or asked.bundle is None:
        return {}
    return read_config(asked.bundle, "multi_gpu_train")


def _freeze(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """Parts that never learn are frozen before the optimizer sees the network; those that thaw, by a handler."""
    if not asked.freeze:
        if asked.thaw is None:
            return {}
        raise UsageError("MS-T172", "--thaw without --freeze", mend="name what is frozen first: --freeze encoder")
    parts = list(asked.freeze)
    if asked.thaw is None:
        network = re.sub(r"@network_def\b", "@frozen", json.dumps(config.get("network", "@network_def")))
        return {
            "frozen": {"_target_": "medseg.training.frozen", "network": "@network_def", "parts": parts},
            "network": json.loads(network),
            "optimizer#params": {"_target_": "medseg.training.Unfrozen", "network": "@network"},
        }
    thaw = {
        "_target_": "medseg.training.Thaw",
        "network": "@network",
        "optimizer": "@optimizer",
        "schedule": "@schedule",
        "parts": parts,
        "share": asked.thaw,
    }
    found: dict[str, Any] = {"train#handlers": [*_handlers(config), thaw]}
    if isinstance(config.get("network"), dict):  # a replica: some weights have no gradient at first
        found["network"] = {**config["network"], "find_unused_parameters": True}
    return found


def _lessons(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    if asked.bundle is None:
        return {}
    return lessons(config, asked.bundle, teachers=asked.teachers, pseudo=asked.pseudo)


def _handlers(config: Mapping[str, Any]) -> list[Any]:
    """The trainer's handlers as far as they are chosen."""
    return list(config.get("train#handlers") or config["train"]["handlers"])


#: Applied in this order; a later one sees what the earlier ones chose, and may override it.
GROUPS: tuple[Callable[[Mapping[str, Any], Asked], dict[str, Any]], ...] = (
    _ranks,
    _places,
    _budget,
    _loss,
    _freeze,
    _lessons,
)
