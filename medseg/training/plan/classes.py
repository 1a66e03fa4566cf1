"""What the label values mean, and whether the network tells classes apart (softmax) or nested regions (sigmoids).

Names come from dataset.json, MSD's value -> name or nnU-Net's name -> value, or from the label maps themselves (`own_names`); nnU-Net's name -> list of values is a region,
such as a whole tumour that holds its core. `regions_class_order` says which value each region is painted with; without it
regions are painted from the largest to the smallest, each with a value that no smaller one holds.

Values with gaps (1, 3, 7) are numbered 1, 2, 3 inside the network, in ascending order, and back in what it predicts.
nnU-Net's `"ignore": N` marks voxels that count nowhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.training.plan.choice import Choice, many

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

#: Segmentation maps are uint8.
_MOST = 255
_IGNORE = "ignore"
_SIDES = (("left", "right"), ("lt", "rt"), ("lh", "rh"), ("l", "r"))


@dataclass(frozen=True)
class Classes:
    """What the network says of a voxel.

    Args:
        table: the structures; of regions the painted value and the parts.
        regions: parts of each region in order of painting; () for classes that exclude each other.
        choice: what and why.
        ignore: the value of voxels that count nowhere; None: there is none.
    """

    table: LabelTable
    regions: tuple[tuple[int, ...], ...]
    choice: Choice
    ignore: int | None = None

    @property
    def outputs(self) -> int:
        """Channels of the network's output."""
        return len(self.regions) or len(self.table) + 1

    @property
    def values(self) -> tuple[int, ...]:
        """Values of structures in a label map, as files hold them."""
        parts = {value for region in self.regions for value in region}
        return tuple(sorted(parts or self.table.by_value))

    @property
    def gaps(self) -> bool:
        """Whether values are numbered anew for the network; regions are channels whatever their parts are called."""
        return not self.regions and self.values != tuple(range(1, self.outputs))

    @property
    def inside(self) -> tuple[int, ...]:
        """Values of structures as the network's pipeline holds them, each in the place of its file's value."""
        return tuple(range(1, self.outputs)) if self.gaps else self.values

    @property
    def ignored(self) -> int | None:
        """The value of ignored voxels inside the network's pipeline."""
        return self.outputs if self.gaps and self.ignore is not None else self.ignore

    def renumbering(self) -> dict[int, int]:
        """Value in a file -> value inside, of all that change; {} without gaps."""
        moves = dict(zip(self.values, self.inside, strict=True))
        if self.ignore is not None and self.ignored is not None:
            moves[self.ignore] = self.ignored
        return {a: b for a, b in moves.items() if a != b}


def ignore_value(said: Mapping[str, Any]) -> int | None:
    """nnU-Net's `"ignore": N` among the labels of dataset.json, MSD's `"N": "ignore"` too; None where there is none."""
    for key, value in _labels(said).items():
        if str(key).casefold() == _IGNORE and isinstance(value, int):
            return value
        if str(value).casefold() == _IGNORE and str(key).isdigit():
            return int(key)
    return None


def known_values(said: Mapping[str, Any]) -> frozenset[int]:
    """Label values of structures that dataset.json names; empty where it names none."""
    names, regions = _read(said)
    return frozenset(names) | {value for parts in regions.values() for value in parts}


def classes_of(
    said: Mapping[str, Any], held: Collection[int], path: Path, own: Mapping[int, str] | None = None
) -> Classes:
    """The structures of a dataset.

    Args:
        said: dataset.json, {} without one.
        held: values of structures that occur in the label maps, without what is ignored.
        path: the dataset, for messages.
        own: value -> name by the label maps themselves, for where dataset.json names none.

    Raises:
        InputError: MS-T150 labels that no bundle can hold: values above 255, none at all, an ignore label that is also a
            structure.
    """
    names, regions = _read(said)
    ignore = ignore_value(said)
    values = sorted(set(names) | {v for parts in regions.values() for v in parts} or set(held))
    wrong = _why_impossible(said, values, ignore)
    if wrong:
        mend = "name each value from 1 to 255 once under labels in dataset.json"
        raise InputError("MS-T150", wrong, file=path, mend=mend)
    if regions:
        return replace(_nested(said, names, regions), ignore=ignore)
    given = names or {value: name for value, name in (own or {}).items() if value in values}
    rows: list[dict[str, Any]] = [{"value": v, "name": given.get(v, f"label {v}")} for v in values]
    table = LabelTable.from_json(_with_mirrors(_unique(rows)))
    never = [row.name for row in table if row.value not in held]
    by = "named by the label maps" if given else "named by their value: nothing names them"
    why = f"labels exclude each other; values {_listed(values)}" + ("" if names else f", {by}")
    if values != list(range(1, len(values) + 1)):
        why += f"; inside the network they are 1 to {len(values)} in this order, in its label maps as in yours"
    if never:
        why += f"; named but in no label map: {', '.join(never)}"
    choice = Choice("classes", f"softmax over background and {many(len(values), 'structure')}", why)
    return Classes(table, (), choice, ignore)


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
        if _IGNORE in (str(key).casefold(), str(value).casefold()):
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


def _why_impossible(said: Mapping[str, Any], values: Sequence[int], ignore: int | None) -> str:
    if ignore is None and any(str(name).casefold() == _IGNORE for name in _labels(said)):
        return "the ignore label of dataset.json is no single value"
    if ignore is not None and (ignore < 1 or ignore in values):
        return f"the ignore label is {ignore}, which is {'background' if ignore < 1 else 'a structure'} too"
    if not values:
        return "no label map holds a structure"
    return f"label values go up to {values[-1]}, segmentation maps to {_MOST}" if values[-1] > _MOST else ""
