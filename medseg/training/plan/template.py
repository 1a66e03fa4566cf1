"""The form of a planned bundle is that of a shipped one: its configs are read, and the decisions are written into them.

So whatever a shipped recipe learns, every later plan has too. The steps are found by their names, not by their places.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle.config import read_config
from medseg.bundle.shipped import find_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence

SEGMENTATION = "hippocampus_mri_segmentation"
INSTANCES = "vertebrae_mri_instance_segmentation"
CONFIGS = ("inference", "train", "evaluate", "multi_gpu_train")
#: Files that are the same in every bundle.
_COPIED = ("LICENSE", "configs/logging.conf")


def configs_of(template: str) -> dict[str, dict[str, Any]]:
    """The configs of a shipped bundle by name, to be changed."""
    root = find_bundle(template)
    return {name: deepcopy(read_config(root, name)) for name in CONFIGS}


def copied_files(template: str) -> dict[str, str]:
    """Path in the bundle -> text of what is taken as it is."""
    root = Path(find_bundle(template))
    return {name: (root / name).read_text(encoding="utf-8") for name in _COPIED}


def step(steps: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """The first transform whose `_target_` is `name`, with or without its module."""
    return next(one for one in steps if one["_target_"].rsplit(".", 1)[-1] == name)


def until(steps: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The steps up to and with the one called `name`."""
    return list(steps[: list(steps).index(step(steps, name)) + 1])
