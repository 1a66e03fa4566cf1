"""dataset.json: image channels, and classes or nested regions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import BundleError
from medseg.labels import LabelTable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MOST = 255


@dataclass(frozen=True)
class Outputs:
    """What the network's output channels are.

    Args:
        table: structures of the label map.
        channels: name of each output channel; of classes the first is the background.
        regions: label value that each sigmoid channel paints, in order; None for classes.
    """

    table: LabelTable
    channels: tuple[str, ...]
    regions: tuple[int, ...] | None = None


def channels_of(dataset: Mapping[str, Any], root: Path) -> tuple[str, ...]:
    """Names of the image channels, each once.

    Raises:
        BundleError: MS-B156 dataset.json does not say.
    """
    named = dataset.get("channel_names") or dataset.get("modality")
    try:
        names = [str(name) for _, name in sorted(dict(named or {}).items(), key=lambda item: int(item[0]))]
    except (TypeError, ValueError) as error:
        raise _unclear(root, f"`channel_names` is {named!r}") from error
    if not names:
        raise _unclear(root, "`channel_names` is missing")
    often = Counter(names)
    return tuple(name if often[name] == 1 else f"{name} {n}" for n, name in enumerate(names))


def outputs_of(dataset: Mapping[str, Any], root: Path) -> Outputs:
    """Classes or regions, as nnU-Net's LabelManager reads them; the ignore label has no output.

    Raises:
        BundleError: MS-B156 no background, values that are not 0, 1, 2, ..., regions without `regions_class_order`, or
            more than 255.
    """
    said = dataset.get("labels")
    if not isinstance(said, dict) or said.get("background") not in (0, "0"):
        raise _unclear(root, "`labels` does not begin with background 0")
    labels = {str(name): _values(value, root) for name, value in said.items() if name not in ("background", "ignore")}
    if any(len(values) > 1 for values in labels.values()):
        return _regions(labels, dataset.get("regions_class_order"), root)
    by_value = {values[0]: name for name, values in labels.items()}
    if sorted(by_value) != list(range(1, len(labels) + 1)) or len(labels) > _MOST:
        raise _unclear(root, f"label values are {sorted(by_value)[:8]} and not 1 to {min(len(labels), _MOST)}")
    table = LabelTable.from_json({"value": value, "name": by_value[value]} for value in sorted(by_value))
    return Outputs(table, ("background", *(row.name for row in table)))


def _regions(labels: Mapping[str, tuple[int, ...]], order: Any, root: Path) -> Outputs:
    regions = {name: values for name, values in labels.items() if set(values) != {0}}
    if not isinstance(order, list) or len(order) != len(regions) or not all(isinstance(v, int) for v in order):
        raise _unclear(root, f"{len(regions)} regions, but `regions_class_order` is {order!r}")
    if len(set(order)) < len(order) or not all(1 <= value <= _MOST for value in order):
        raise _unclear(
            root, f"`regions_class_order` is {order}, and each region needs a value of its own, 1 to {_MOST}"
        )
    rows = [
        {"value": value, "name": name, "region": list(values)}
        for (name, values), value in zip(regions.items(), order, strict=True)
    ]
    return Outputs(LabelTable.from_json(rows), tuple(regions), tuple(order))


def _values(value: Any, root: Path) -> tuple[int, ...]:
    try:
        several = value if isinstance(value, list) else [value]
        values = tuple(int(one) for one in several)
    except (TypeError, ValueError) as error:
        raise _unclear(root, f"a label is {value!r}") from error
    if not values:
        raise _unclear(root, "a label has no value")
    return values


def _unclear(root: Path, what: str) -> BundleError:
    return BundleError(
        "MS-B156",
        f"dataset.json is not understood: {what}",
        file=root,
        mend="take the one that this model was trained with",
    )
