"""What `medseg train` was asked for, as overrides of a bundle's train.json: `id -> value`, as MONAI's command line takes.

Each group of options is one function from (config, asked) to overrides, listed in `GROUPS`: a new option is a field of
`Asked` and a line there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medseg.bundle.config import read_config
from medseg.errors import UsageError
from medseg.training.hardware import load_hardware
from medseg.training.lessons import Lessons, taught
from medseg.training.ranks import launched
from medseg.training.smaller import smaller

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
        hardware: a machine of configs/hardware, or a file.
        validation: the cases that validate; None: as the recipe says.
        bundle: folder of the recipe.
        freeze: parts of the network that stay as they are.
        thaw: share of the budget after which they learn too; None: never.
        lessons: what is learnt from beside labels.
        smaller: how many times fewer weights the network has; None: as many as the recipe's.
    """

    data: Path
    out: Path
    minutes: float | None = None
    epochs: int | None = None
    loss: str | None = None
    resume: bool = False
    hardware: str | None = None
    validation: tuple[str, ...] | None = None
    bundle: Path | None = None
    freeze: tuple[str, ...] = ()
    thaw: float | None = None
    lessons: Lessons = field(default_factory=Lessons)
    smaller: float | None = None


def overrides_of(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """Every override of train.json.

    Args:
        config: train.json of the bundle.
        asked: the options.

    Raises:
        UsageError: MS-T106 the bundle has no such loss, MS-T164 no checkpoints to go on from, MS-T167 unknown hardware, MS-T172 `thaw` without `freeze`; others see `lessons.taught`.
    """
    found: dict[str, Any] = {}
    for group in GROUPS:
        found |= group({**config, **found}, asked)
    return dict(sorted(found.items(), key=lambda item: item[0].count("#")))  # the whole before its parts


def kept_of(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """The overrides that a run's own train.json keeps (`KEPT`): not those of the machines that it runs on."""
    found: dict[str, Any] = {}
    for group in GROUPS:
        found |= {} if group is _ranks else group({**config, **found}, asked)
    return {key: found[key] for key in KEPT if key in found}


def _places(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    del config
    return {"dataset_dir": str(asked.data), "output_dir": str(asked.out / "models")}


def _budget(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    if asked.minutes is not None:
        return {"minutes": asked.minutes, "epochs": ENDLESS}
    if asked.epochs is None:
        return {}
    return {"epochs": asked.epochs} | ({"minutes": None} if config.get("minutes") is not None else {})


def _loss(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    if asked.loss is None:
        return {}
    if asked.loss not in config.get("losses", {}):
        known = ", ".join(config.get("losses", {})) or "none"
        raise UsageError("MS-T106", f"this bundle has no loss {asked.loss!r}", mend=f"choose one of: {known}")
    return {"base_loss": f"@losses#{asked.loss}"}


def _hardware(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """What a recipe leaves open of a machine; keys that it does not have are not for it."""
    if asked.hardware is None:
        return {}
    found = load_hardware(asked.hardware)
    said = {"num_workers": found.num_workers, "cache_gb": found.cache_gb, "recompute": found.recompute}
    return {key: value for key, value in said.items() if key in config}


def _fold(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    del config
    return {} if asked.validation is None else {"validation": list(asked.validation)}


def _ranks(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """Where torchrun started several processes: the bundle's own overlay for them."""
    del config
    if launched()[1] == 1 or asked.bundle is None:
        return {}
    return read_config(asked.bundle, "multi_gpu_train")


def _freeze(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """Parts that never learn are frozen before the optimizer sees the network; those that thaw, by a handler.

    A run that is gone on with says both itself; but an overlay for several processes has a network of its own.
    """
    if asked.thaw is not None and not asked.freeze and not asked.resume:
        raise UsageError("MS-T172", "--thaw without --freeze", mend="name what is frozen first: --freeze encoder")
    parts = [] if asked.resume else list(asked.freeze)
    found: dict[str, Any] = {}
    if parts and asked.thaw is None:
        found["frozen"] = {"_target_": "medseg.training.frozen", "network": "@network_def", "parts": parts}
        found["optimizer#params"] = {"_target_": "medseg.training.Unfrozen", "network": "@network"}
    elif parts:
        thaw = {"_target_": "medseg.training.Thaw", "parts": parts, "share": asked.thaw}
        thaw |= {name: f"@{name}" for name in ("network", "optimizer", "schedule")}
        found["train#handlers"] = [*_handlers(config), thaw]
    network = config.get("network", "@network_def")
    if "frozen" in {**config, **found}:
        found["network"] = json.loads(re.sub(r"@network_def\b", "@frozen", json.dumps(network)))
    if isinstance(network, dict) and "medseg.training.Thaw" in json.dumps({**config, **found}):
        found["network"] = network | {"find_unused_parameters": True}  # some weights have no gradient at first
    return found


def _smaller(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    if asked.smaller is None or asked.bundle is None or asked.resume:
        return {}
    return dict(smaller(config, asked.bundle, asked.smaller))


def _lessons(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    if asked.bundle is None or asked.resume:  # a run that is gone on with says it itself
        return {}
    return taught(config, asked.bundle, asked.lessons)


def _handlers(config: Mapping[str, Any]) -> list[Any]:
    """The trainer's handlers as far as they are chosen."""
    return list(config.get("train#handlers") or config["train"].get("handlers") or ())


def _resume(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    if not asked.resume:
        return {}
    if CHECKPOINTS not in json.dumps(config):
        raise UsageError(
            "MS-T164", "this run writes no checkpoints that it could go on from", file=asked.out,
            mend=f"name {CHECKPOINTS} among the handlers of train.json, as the shipped bundles do, and start anew",
        )  # fmt: skip
    return {"resume": True}


#: Applied in this order; a later one sees what the earlier ones chose, and may override it.
GROUPS: tuple[Callable[[Mapping[str, Any], Asked], dict[str, Any]], ...] = (
    _ranks,
    _places,
    _budget,
    _loss,
    _smaller,
    _freeze,
    _lessons,
    _hardware,
    _fold,
    _resume,
)
#: What is written into the run's own train.json, so that it need not be said again with --resume.
KEPT = (
    *("minutes", "epochs", "base_loss", "validation", "seed"),
    *(
        "network_def#features",
        "network_def#channels",
        "loss",
        "frozen",
        "network",
        "optimizer#params",
        "train#handlers",
        "train#trainer#prepare_batch",
    ),
    *("train#deterministic_transforms", "train#random_transforms", "train#dataset#data"),
)
