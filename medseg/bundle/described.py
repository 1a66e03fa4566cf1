"""What a bundle says of the image channels it takes and the labels it gives: in our words, else in MONAI's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.errors import BundleError
from medseg.labels import LabelTable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def read_channels(config: Mapping[str, Any], metadata: Mapping[str, Any], root: Path) -> tuple[str, ...]:
    """Names of the image channels: `channels` of the config, else metadata.json's channel_def or number.

    Raises:
        BundleError: MS-B107 when neither says.
    """
    image = _tensor(metadata, "inputs", "image")
    named, count = image.get("channel_def"), image.get("num_channels")
    if config.get("channels"):
        return tuple(str(name) for name in config["channels"])
    if isinstance(named, dict) and named and all(str(key).isdigit() for key in named):
        return tuple(str(name) for _, name in sorted(named.items(), key=lambda item: int(item[0])))
    if isinstance(count, int) and count > 0:
        return tuple(f"channel {n}" for n in range(count))
    raise BundleError(
        "MS-B107",
        "neither `channels` in inference.json nor channel_def in metadata.json says what the image channels are",
        file=root,
        mend='write "channels": ["T1w"] into configs/inference.json',
    )


def read_labels(config: Mapping[str, Any], metadata: Mapping[str, Any], root: Path) -> LabelTable:
    """The label table: `labels` of the config, else metadata.json's channel_def of the output, as MONAI Label does.

    Raises:
        BundleError: MS-B108 when neither says, or the table contradicts itself.
    """
    try:
        if config.get("labels"):
            return LabelTable.from_json(config["labels"])
        named = {int(k): str(v) for k, v in _tensor(metadata, "outputs", "pred").get("channel_def", {}).items()}
        offset = 0 if named.get(0, "background").lower() == "background" else 1  # regions have no background channel
        rows = [{"value": k + offset, "name": v} for k, v in sorted(named.items()) if v.lower() != "background"]
        if rows:
            return LabelTable.from_json(rows)
        what = "neither `labels` in inference.json nor channel_def in metadata.json says what its labels mean"
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        what = f"its label table is not readable: {type(error).__name__}: {error}"
    raise BundleError(
        "MS-B108", what, file=root, mend='write "labels": [{"value": 1, "name": "..."}] into configs/inference.json'
    )


def _tensor(metadata: Mapping[str, Any], side: str, preferred: str) -> Mapping[str, Any]:
    """The description of the image or the prediction in metadata.json: by its usual name, else the first."""
    described = metadata.get("network_data_format")
    tensors = described.get(side) if isinstance(described, dict) else None
    if not isinstance(tensors, dict):
        return {}
    tensor = tensors.get(preferred) or next(iter(tensors.values()), None)
    return tensor if isinstance(tensor, dict) else {}
