"""The configs of a bundle against the rules under which MONAI, MONAI Label and the federated client read them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from monai.bundle.properties import InferProperties, TrainProperties
from monai.utils.enums import BundleProperty, BundlePropertyConfig

from medseg.bundle.check_instances import INSTANCES
from medseg.bundle.config import read_config
from medseg.bundle.gate import GatedParser
from medseg.bundle.shipped import config_path
from medseg.errors import MedsegError

if TYPE_CHECKING:
    from pathlib import Path

Found = tuple[str, str, str, bool]  # code, message, file, whether it is a warning


def config_problems(root: Path, metadata: Mapping[str, Any]) -> Iterator[Found]:
    """Every problem of inference and train, alone and against each other."""
    configs = {}
    for name, properties in (("inference", InferProperties), ("train", TrainProperties)):
        path = config_path(root, name)
        if path is None:
            continue
        file = path.relative_to(root).as_posix()
        raw = read_config(root, name)
        yield from ((code, what, file, False) for code, what in _alone(raw))
        parser = GatedParser(raw, root)
        try:
            parser.parse()
        except MedsegError as error:
            yield error.code, error.what, file, False
            continue
        configs[name] = parser
        yield from ((code, what, file, False) for code, what in _properties(parser, properties))
        yield from ((code, what, file, False) for code, what in _keys(parser.get()))
        yield from ((code, what, file, False) for code, what in _loaders(parser.get()))
    if len(configs) == 2:
        yield from (("MS-B315", what, "configs/train.json", False) for what in _unequal(**configs))
    if "inference" in configs:
        yield from (
            ("MS-B316", what, "configs/inference.json", True) for what in _described(configs["inference"], metadata)
        )


def _alone(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """MONAI Label parses inference.json alone, MonaiAlgo train.json: nothing may point outside."""
    for key, value in _strings(raw):
        if "_meta_" in value:
            yield "MS-B311", f"{key} refers to metadata.json (@_meta_), which MONAI Label does not load"
        if value.startswith("%") and GatedParser.split_path_id(value[1:])[0]:
            yield "MS-B311", f"{key} takes text from another file"


def _properties(parser: GatedParser, properties: Mapping[str, Mapping]) -> Iterator[tuple[str, str]]:
    """What MONAI's `check_properties` looks for, without building anything."""
    for name, entry in properties.items():
        if entry[BundleProperty.REQUIRED] and entry[BundlePropertyConfig.ID] not in parser:
            yield "MS-B312", f"has no {entry[BundlePropertyConfig.ID].replace('::', '#')} ({name})"
    if "network_def" not in parser:
        yield "MS-B312", "has no network_def"
    for key in ("train::handlers", "validate::handlers", "handlers"):
        for number, handler in enumerate(parser.get(key) or []):
            if isinstance(handler, str):
                what = f"{key.replace('::', '#')}#{number} is {handler!r}; MONAI Label and MONAI's own check read"
                yield (
                    "MS-B312",
                    f"{what} handlers as tables with a `_target_`: write it in place, refer to it by number",
                )


def _keys(config: Any) -> Iterator[tuple[str, str]]:
    """MONAI's Spacingd calls update() on every data key that begins with another key and an underscore."""
    keys = {"image", "pred"}
    for value in _tables(config):
        named = value.get("keys")
        keys |= {named} if isinstance(named, str) else {k for k in named or () if isinstance(k, str)}
    for key in sorted(keys):
        for other in sorted(keys):
            if other.startswith(f"{key}_"):
                yield (
                    "MS-B313",
                    f"data key {other!r} begins with {key!r} and an underscore: MONAI's Spacingd fails on it",
                )


def _loaders(config: Any) -> Iterator[tuple[str, str]]:
    """A LoadImaged that names no reader builds every reader there is, and takes broken DICOM series as they come."""
    for value in _tables(config):
        if value.get("_target_") == "monai.transforms.LoadImaged" and not value.get("reader"):
            yield "MS-B314", "LoadImaged names no reader: write medseg.transforms.VolumeReader"


def _unequal(inference: GatedParser, train: GatedParser) -> Iterator[str]:
    """What both configs state must be equal: network, labels, channels, deterministic preprocessing."""
    for key in ("network_def", "labels", "channels"):
        if inference.get(key) != train.get(key):
            yield f"{key} differs from inference.json's"
    ours = _steps(inference.get("preprocessing"), inference)
    for key in ("train::deterministic_transforms", "validate::preprocessing"):
        theirs = train.get(key)
        if theirs is not None and _steps(theirs, train) != ours:
            yield f"{key.replace('::', '#')} differs from inference.json's preprocessing"


def _steps(node: Any, parser: GatedParser) -> list[str]:
    """The transforms of a Compose or a list as texts, as far as they touch the image."""
    while isinstance(node, str) and node.startswith("@"):
        node = parser.get(node[1:])
    if isinstance(node, dict):
        return _steps(node.get("transforms"), parser)
    return [text for step in node or [] if (text := _image_part(step)) is not None]


def _image_part(step: Any) -> str | None:
    """A transform with everything that concerns other keys taken out: `mode: [bilinear, nearest]` -> bilinear."""
    if not isinstance(step, dict):
        return str(step)
    keys = step.get("keys")
    several = keys if isinstance(keys, list) else [keys]
    if "image" not in several:
        return None
    place = several.index("image")
    kept = {}
    for name, value in step.items():
        if name in ("label_keys", "allow_missing_keys"):
            continue
        per_key = isinstance(value, list) and len(several) > 1 and len(value) == len(several) and name != "spacing_mm"
        kept[name] = "image" if name == "keys" else value[place] if per_key else value
    return json.dumps(kept, sort_keys=True)


def _described(inference: GatedParser, metadata: Mapping[str, Any]) -> Iterator[str]:
    """metadata.json names the same channels and labels, which is all that MONAI Label and Deploy show."""
    described = metadata.get("network_data_format") or {}
    channels = (described.get("inputs", {}).get("image") or {}).get("channel_def") or {}
    wanted = inference.get("channels")
    if wanted and [channels.get(str(n)) for n in range(len(wanted))] != list(wanted):
        yield f"channels {wanted} are not metadata.json's channel_def {list(channels.values())}"
    pred = described.get("outputs", {}).get("pred") or {}
    if pred.get("format") == INSTANCES:  # one channel, whose values are numbers of instances
        return
    outputs = pred.get("channel_def") or {}
    rows = [row for row in inference.get("labels") or [] if not row.get("region")]
    place = {row["value"]: str(row["value"]) for row in rows}
    if max(place, default=0) >= len(outputs):  # values with gaps: classes are the labels in ascending order
        place = {value: str(n) for n, value in enumerate(sorted(place), 1)}
    for row in rows:
        called = outputs.get(place[row["value"]])
        if str(called or "").lower() != str(row["name"]).lower():
            yield f"label {row['value']} is {row['name']!r}, metadata.json calls it {called!r}"


def _tables(node: Any) -> Iterator[Mapping]:
    if isinstance(node, Mapping):
        yield node
    for value in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from _tables(value)


def _strings(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, Mapping | list):
        pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
        for name, value in pairs:
            yield from _strings(value, f"{key}#{name}" if key else str(name))
