"""What `medseg train` was asked for, as overrides of a bundle's train.json: `id -> value`, as MONAI's command line takes.

Each group of options is one function from (config, asked) to overrides, listed in `GROUPS`: a new option is a field of
`Asked` and a line there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: With `minutes` the schedule ends the run; no run has so many epochs.
ENDLESS = 1_000_000


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
    """

    data: Path
    out: Path
    minutes: float | None = None
    epochs: int | None = None
    loss: str | None = None
    resume: bool = False


def overrides_of(config: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """Every override of train.json.

    Args:
        config: train.json of the bundle.
        asked: the options.

    Raises:
        UsageError: MS-T106 the bundle has no such loss.
    """
    found: dict[str, Any] = {}
    for group in GROUPS:
        found |= group(config, asked)
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


#: Applied in this order; a later one may override an earlier one.
GROUPS: tuple[Callable[[Mapping[str, Any], Asked], dict[str, Any]], ...] = (_places, _budget, _loss)
