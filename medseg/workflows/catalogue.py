"""`medseg bundles`: the shipped models, from their metadata alone (neither torch nor MONAI is loaded)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.bundle.shipped import config_path, shipped_bundles

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WEIGHTS = ("model.safetensors", "model.pt")


@dataclass(frozen=True)
class Entry:
    """One shipped bundle.

    Args:
        name: what `-b` takes.
        version: of the bundle.
        path: its folder.
        weights: whether it can predict; one without is a recipe for training.
        needs: the images it takes, in words.
        finds: the structures it labels, in words.
        scores: its published metrics, name -> value.
        intended_use: in words.
    """

    name: str
    version: str
    path: Path
    weights: bool
    needs: str
    finds: str
    scores: Mapping[str, Any]
    intended_use: str


def list_bundles() -> list[Entry]:
    """Every shipped bundle, by name."""
    return [_entry(name, path) for name, path in shipped_bundles().items()]


def _entry(name: str, path: Path) -> Entry:
    file = config_path(path, "metadata")
    is_json = file is not None and file.suffix == ".json"
    meta: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file and is_json else {}
    return Entry(
        name=name,
        version=str(meta.get("version", "")),
        path=path,
        weights=any((path / "models" / weights).is_file() for weights in WEIGHTS),
        needs=_words(meta.get("image_classes")),
        finds=_words(meta.get("label_classes") or meta.get("pred_classes")),
        scores=meta.get("eval_metrics") or {},
        intended_use=str(meta.get("intended_use", "")),
    )


def _words(value: object) -> str:
    """The zoo writes classes as one string or as a list or mapping of them."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {name}" for key, name in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
