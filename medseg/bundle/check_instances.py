"""What a bundle that finds instances promises beyond others: metadata.json's output has the format "instances"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from medseg.bundle.config import read_config
from medseg.bundle.gate import full_name
from medseg.bundle.shipped import config_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: `format` of the output in metadata.json.
INSTANCES = "instances"
_INFERER = "medseg.inferers.InstanceInferer"
#: What a network says of N instances -> the axes of it; masks may be a list of N too.
_PARTS = {"boxes": 2, "scores": 1, "classes": 1}


def kind_problems(root: Path, metadata: Mapping[str, Any]) -> Iterator[str]:
    """Metadata and inferer of one kind, and a label table of class c + 1 for class c."""
    if config_path(root, "inference") is None:
        return
    inference = read_config(root, "inference")
    target = (inference.get("inferer") or {}).get("_target_") if isinstance(inference.get("inferer"), dict) else None
    finds = isinstance(target, str) and full_name(target) == _INFERER
    tensors = (metadata.get("network_data_format") or {}).get("outputs") or {}
    says = (tensors.get("pred") or {}).get("format") == INSTANCES
    if finds != says:
        found = f"its inferer is {'' if finds else 'not '}{_INFERER}"
        yield f'{found}, and the format of metadata.json\'s output is {"" if says else "not "}"{INSTANCES}"'
    if not (finds and says):
        return
    values = sorted(int(row["value"]) for row in inference.get("labels") or [])
    if not values:
        yield "it has no `labels`: class c of the network needs a label of value c + 1"
    elif values != list(range(1, len(values) + 1)):
        yield f"its labels have the values {values}: class c of the network is the label of value c + 1, from 1 on"


def instance_problems(output: Any, network: torch.nn.Module) -> Iterator[str]:
    """What a network in eval mode gave for one image: `Detections` for each, as `InstanceInferer` takes them."""
    one = output[0] if isinstance(output, list | tuple) and len(output) == 1 else None
    parts: dict[str, Any] = {name: getattr(one, name, None) for name in (*_PARTS, "masks")}
    missing = [name for name, part in parts.items() if part is None]
    if missing:
        kind = type(output).__name__
        yield f"the network gives a {kind} in eval mode, not one set of instances an image (no {', '.join(missing)})"
        return
    count = len(parts["masks"])
    for name, axes in _PARTS.items():
        part = parts[name]
        if not isinstance(part, torch.Tensor) or part.ndim != axes or len(part) != count:
            yield f"the network gives {count} masks, and {name} of another form: {tuple(getattr(part, 'shape', ()))}"
    known = getattr(network, "classes", None)
    if isinstance(known, int) and count and int(parts["classes"].max()) >= known:
        yield f"the network gives class {int(parts['classes'].max())}, and it knows {known}"
