"""What the label values mean, and whether the network tells classes apart (softmax) or nested regions (sigmoids).

Names come from dataset.json, MSD's value -> name or nnU-Net's name -> value; nnU-Net's name -> list of values is a region,
such as a whole tumour that holds its core. `regions_class_order` says which value each region is painted with; without it
regions are painted from the largest to the smallest, each with a value that no smaller one holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.training.plan.choice import Choice, many

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

#: Segmentation maps are uint8.
_MOST = 255
_SIDES = (("left", "right"), ("lt", "rt"), ("lh", "rh"), ("l", "r"))


@dataclass(frozen=True)
class Classes:
    """What the network says of a voxel.

    Args:
        table: the structures; of regions the painted value and the parts.
        regions: parts of each region in order of painting; () for classes that exclude each other.
        choice: what and why.
    """

    table: LabelTable
    regions: tuple[tuple[int, ...], ...]
    choice: Choice

    @property
    def outputs(self) -> int:
        """Channels of the network's output."""
        return len(self.regions) or max(self.table.by_value) + 1

    @property
    def values(self) -> tuple[int, ...]:
        """Values that can stand in a label map."""
        parts = {value for region in self.regions for value in region}
        return tuple(sorted(parts or self.table.by_value))


def known_values(said: Mapping[str, Any]) -> frozenset[int]:
    """Label values that dataset.json names; empty where it names none."""
    names, regions = _read(said)
    return frozenset(names) | {value for parts in regions.values() for value in parts}


def classes_of(said: Mapping[str, Any], held: Collection[int], path: Path) -> Classes:
    """The structures of a dataset.

    Args:
        said: dataset.json, {} without one.
        held: values that occur in the label maps.
        path: the dataset, for messages.

    Raises:
        InputError: MS-T150 labels that no bundle can hold: an ignore label, values above 255, none at all.
    """
    names, regions = _read(said)
    values = sorted(set(names) | {v for parts in regions.values() for v in parts} or set(held))
    wrong = _why_impossible(said, values)
    if wrong:
        mend = "renumber the labels from 1 on, without an ignore label"
        raise InputError("MS-T150", wrong, file=path, mend=mend)
    if regions:
        return _nested(said, names, regions)
    rows: list[dict[str, Any]] = [{"value": v, "name": names.get(v, f"label {v}")} for v in values]
    table = LabelTable.from_json(_with_mirrors(_unique(rows)))
    never = [row.name for row in table if row.value not in held]
    why = f"labels exclude each other; values {_listed(values)}" + (
        "" if names else ", named by their value: nothing names them"
    )
    if len(values) < values[-1]:
        gaps = values[-1] - len(values)
        why += (
            f"; {gaps} channels stay unused, for values that do not occur: numbering labels from 1 on would save them"
        )
    if never:
        why += f"; named but in no label map: {', '.join(never)}"
    return Classes(table, (), Choice("classes", f"softmax over background and {many(len(values), 'structure')}", why))


def mirroring_of(table: LabelTable, *, pairs_swap: bool = True) -> tuple[str, Choice]:
    """Whether patches may be mirrored left to right, and why: "plain", "swap" (left and right labels trade) or "".

    Only along this axis: bodies do not stand on their heads. Names that say a side forbid it, for a mirrored left kidney
    looks like a right one, unless each has its partner to trade with.

    Args:
        table: the structures.
        pairs_swap: labels can be traded; not so for instances, whose inferer knows no pairs.
    """
    sided = [row for row in table if _side(row.name) is not None]
    if not sided:
        why = "no structure's name says a side, and left and right bodies look alike"
        return "plain", Choice("mirroring", "left-right, in half of the patches", why)
    alone = [row.name for row in sided if row.mirror is None]
    pairs = (len(sided) - len(alone)) // 2
    nested = any(row.region for row in table)
    if not alone and not nested and pairs_swap:
        why = (
            f"each name that says a side has its partner ({pairs} pairs, such as {sided[0].name} and {sided[0].mirror})"
        )
        return "swap", Choice("mirroring", "left-right, in half of the patches; left and right labels trade", why)
    why = f"{len(sided)} names say a side, such as {sided[0].name}"
    if alone:
        why += f"; without a partner: {', '.join(alone[:5])}"
    return "", Choice("mirroring", "none", why)


def _nested(said: Mapping[str, Any], names: Mapping[int, str], regions: Mapping[str, tuple[int, ...]]) -> Classes:
    every = {**{name: (value,) for value, name in names.items()}, **regions}
    order = said.get("regions_class_order")
    listed = list(every)
    if isinstance(order, list) and len(order) == len(every) and all(isinstance(v, int) for v in order):
        listed = [name for name in _labels(said) if name in every]
        painted = dict(zip(listed, order, strict=True))
        how = "painted as regions_class_order says"
    else:
        listed.sort(key=lambda name: (-len(every[name]), name))
        painted = {}
        for n, name in enumerate(listed):
            inner = {v for other in listed[n + 1 :] if set(every[other]) < set(every[name]) for v in every[other]}
            free = [v for v in every[name] if v not in inner and v not in painted.values()]
            painted[name] = free[0] if free else every[name][0]
        how = "painted from the largest to the smallest"
    rows = [{"value": painted[name], "name": name, "region": list(every[name])} for name in listed]
    table = LabelTable.from_json(_with_mirrors(rows))
    parts = "; ".join(f"{name} = {' + '.join(map(str, every[name]))}" for name in listed)
    ordered = tuple(every[name] for name in listed)
    return Classes(
        table,
        ordered,
        Choice("classes", f"sigmoids for {len(listed)} nested regions", f"dataset.json says {parts}; {how}"),
    )


def painted_values(classes: Classes) -> list[int]:
    """The value of each region in order of painting."""
    of_parts = {row.region: row.value for row in classes.table}
    return [of_parts[parts] for parts in classes.regions]


def _labels(said: Mapping[str, Any]) -> Mapping[str, Any]:
    labels = said.get("labels")
    return labels if isinstance(labels, dict) else {}


def _read(said: Mapping[str, Any]) -> tuple[dict[int, str], dict[str, tuple[int, ...]]]:
    """Value -> name, and region -> values, of dataset.json's `labels`, without background."""
    names: dict[int, str] = {}
    regions: dict[str, tuple[int, ...]] = {}
    for key, value in _labels(said).items():
        if str(key).casefold() == "ignore":
            continue
        if isinstance(value, int):
            names[value] = str(key)
        elif isinstance(value, str) and str(key).isdigit():
            names[int(key)] = value
        elif isinstance(value, list) and value and all(isinstance(v, int) for v in value):
            regions[str(key)] = tuple(value)
    names.pop(0, None)
    singles = {name: parts for name, parts in regions.items() if len(parts) == 1}
    if regions and len(singles) == len(regions):  # lists of one value each are plain labels
        return {**names, **{parts[0]: name for name, parts in singles.items()}}, {}
    return names, regions


def _side(name: str) -> tuple[str, int, int] | None:
    """(the name with the other side, where, which pair) of a name with a word for a side, None without."""
    words = re.split(r"([\s_.,/()-]+)", name)  # digits stay: L1 is a vertebra
    for pair, sides in enumerate(_SIDES):
        for n, word in enumerate(words):
            if word.casefold() in sides:
                other = sides[1 - sides.index(word.casefold())]
                swapped = other.capitalize() if word.istitle() else other.upper() if word.isupper() else other
                return "".join([*words[:n], swapped, *words[n + 1 :]]), n, pair
    return None


def _with_mirrors(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    by_name = {row["name"].casefold(): row["name"] for row in rows}
    out = []
    for row in rows:
        side = _side(row["name"])
        other = None if side is None else by_name.get(side[0].casefold())
        out.append(row if other is None else {**row, "mirror": other})
    return out


def _unique(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two values of one name get their value behind it."""
    names = [row["name"] for row in rows]
    return [row if names.count(row["name"]) == 1 else {**row, "name": f"{row['name']} {row['value']}"} for row in rows]


def _listed(values: Sequence[int]) -> str:
    shown = ", ".join(map(str, values[:12]))
    return shown + (f" and {len(values) - 12} more" if len(values) > 12 else "")


def _why_impossible(said: Mapping[str, Any], values: Sequence[int]) -> str:
    if any(str(name).casefold() == "ignore" for name in _labels(said)):
        return "dataset.json has an ignore label, which a plan cannot train with yet"
    if not values:
        return "no label map holds a structure"
    return f"label values go up to {values[-1]}, segmentation maps to {_MOST}" if values[-1] > _MOST else ""
