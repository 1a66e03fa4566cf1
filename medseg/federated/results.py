"""What a training together gives back: ordinary bundles, which `medseg predict` and `evaluate` take as they are."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from medseg.bundle.config import read_config
from medseg.bundle.shipped import config_path
from medseg.bundle.weights import save_weights
from medseg.training.domain import declare
from medseg.training.train import copy_recipe
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor


def write_result(
    recipe: Path, state: Mapping[str, Tensor], out: Path, cases: Sequence[Mapping[str, Any]] | None = None
) -> Path:
    """A copy of a bundle with other weights, in fp16; what was there is replaced.

    What was fitted for the recipe's own weights goes: temperatures, predicted Dice, further members of an ensemble. Where
    the cases are at hand, their domain takes the place of the recipe's, as after `medseg train`; a server has none, so the
    domain stays the one that the consortium agreed on with the bundle.

    Args:
        recipe: the bundle that was trained.
        state: the network's whole state dict.
        out: the new bundle.
        cases: `{"image", "label"}` each, that it was trained with.

    Raises:
        BundleError: MS-B114 a weight is not finite.
        OutputError: the disk is full, and so on.
    """
    if out.exists():
        shutil.rmtree(out)
    copy_recipe(recipe, out)
    if cases:
        declare(out, list(cases))
    else:
        _forget_fitted(out)
    save_weights(state, out)
    return out


def _forget_fitted(out: Path) -> None:
    path = config_path(out, "inference")
    if path is None:
        return
    config = read_config(out, "inference")
    declared = config.get("uncertainty")
    if not isinstance(declared, dict):
        return
    declared.pop("calibration", None)
    weights = (declared.get("ensemble") or {}).get("weights") or ()
    if not all((out / str(name)).is_file() for name in weights):
        declared.pop("ensemble")
    write_json(out / "configs" / "inference.json", config)
    if path.suffix != ".json":
        path.unlink()
