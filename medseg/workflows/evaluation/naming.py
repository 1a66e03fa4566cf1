"""Which values of the prediction and of the reference are one structure, and both maps in common values.

Tools number alike structures differently, and nest them (whole tumour = edema + core). Every voxel value belongs to a
set of structures; values of one set, in either map, get one common value. So both maps are compared in one numbering,
a structure is the union of the common values whose set contains it, and nothing else in the code knows of renaming.

Example: the prediction has liver = 5, tumour = 6; the reference liver = 1, tumour = 2; wanted are "liver with
tumour" (5, 6 and 1, 2) and "tumour" (6 and 2). Common value 1 stands for {liver with tumour}, 2 for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import UsageError
from medseg.metrics.contingency import contingency

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from medseg.labels import LabelTable


@dataclass(frozen=True)
class Structure:
    """One structure of both maps.

    Args:
        name: in every table.
        pred: its values in the prediction; several for a nested region.
        ref: its values in the reference.
    """

    name: str
    pred: tuple[int, ...]
    ref: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Common:
    """Two maps in one numbering.

    Args:
        pred: (I, J, K) of the smallest unsigned integer type.
        ref: the same shape.
        labels: structure -> its common values.
        unknown: (map, value, voxels) of values that belong to no structure; they count as background.
    """

    pred: np.ndarray
    ref: np.ndarray
    labels: dict[str, tuple[int, ...]]
    unknown: tuple[tuple[str, int, int], ...]


def structures_of(
    pred: LabelTable | None, ref: LabelTable | None, values: Iterable[int], wanted: Mapping[str, Any] | None = None
) -> list[Structure]:
    """The structures to score.

    Args:
        pred: what the prediction's values mean, None where nothing says so.
        ref: the same of the reference.
        values: all values above 0 in either map, for maps that nothing names.
        wanted: the user's own: name -> value or name in the maps, a list of them (a nested region), or
            {"pred": ..., "ref": ...} where they differ; None: match by name, or by value where one map has no names.

    Raises:
        UsageError: MS-U160 a name that neither map knows, or a structure without values.
    """
    if wanted is not None:
        return [_structure(str(name), rule, pred, ref) for name, rule in wanted.items()]
    if pred is None and ref is None:
        return [Structure(f"label {v}", (v,), (v,)) for v in sorted(set(values))]
    if pred is None or ref is None:
        known = pred or ref
        assert known is not None
        return [Structure(x.name, x.region or (x.value,), x.region or (x.value,)) for x in known]
    return _by_name(pred, ref)


_SIDES = ("pred", "ref")


def _by_name(pred: LabelTable, ref: LabelTable) -> list[Structure]:
    """Every structure of either table, those of one name put together; one that only one map knows stays empty there."""
    in_pred = {_key(x.name): x for x in pred}
    out = [
        Structure(x.name, (in_pred[_key(x.name)].region or (in_pred[_key(x.name)].value,)) if _key(x.name) in in_pred else (), x.region or (x.value,))
        for x in ref
    ]  # fmt: skip
    known = {_key(x.name) for x in ref}
    return out + [Structure(x.name, x.region or (x.value,), ()) for x in pred if _key(x.name) not in known]


def _structure(name: str, rule: Any, pred: LabelTable | None, ref: LabelTable | None) -> Structure:
    found = Structure(name, *(_wanted(name, rule, side, pred, ref) for side in _SIDES))
    if not found.pred and not found.ref:
        raise UsageError(
            "MS-U160", f"structure {name!r} has no values", mend="give values, as in --labels liver=5,tumour=6"
        )
    return found


def _wanted(name: str, rule: Any, side: str, pred: LabelTable | None, ref: LabelTable | None) -> tuple[int, ...]:
    if isinstance(rule, dict):
        rule = rule.get(side, rule.get("value"))
    table = pred if side == "pred" else ref
    named = {} if table is None else {_key(x.name): x.region or (x.value,) for x in table}
    out: list[int] = []
    for item in rule if isinstance(rule, (list, tuple)) else [rule]:
        if isinstance(item, int) and not isinstance(item, bool):
            out.append(item)
        elif isinstance(item, str) and item.lstrip("-").isdigit():
            out.append(int(item))
        elif isinstance(item, str) and _key(item) in named:
            out += named[_key(item)]
        else:
            known = ", ".join(x.name for x in table) if table is not None else "no names, only values"
            which = "prediction" if side == "pred" else "reference"
            raise UsageError(
                "MS-U160",
                f"structure {name!r} is {item!r} in the {which}, which knows {known}",
                mend="give values, as in --labels liver=5,tumour=6, or names that both maps know",
            )
    return tuple(dict.fromkeys(out))


def _key(name: str) -> str:
    """Names as they are compared: 'Left Kidney', 'left_kidney' and 'left-kidney' are one."""
    return "".join(c for c in name.casefold() if c.isalnum())


def in_common(pred: np.ndarray, ref: np.ndarray, structures: Sequence[Structure]) -> Common:
    """Both maps in one numbering.

    Args:
        pred: (I, J, K) unsigned integers.
        ref: the same shape.
        structures: from `structures_of`.
    """
    sets: dict[frozenset[str], int] = {frozenset(): 0}
    unknown: list[tuple[str, int, int]] = []
    maps = []
    table = contingency(pred, ref)
    found = ((pred, table.pred_values, table.pred_sizes), (ref, table.ref_values, table.ref_sizes))
    for side, (array, values, sizes) in zip(_SIDES, found, strict=True):
        members_of = _membership(structures, side)
        numbers = np.zeros(len(values), np.int64)
        for n, (value, size) in enumerate(zip(values.tolist(), sizes.tolist(), strict=True)):
            members = members_of.get(value, frozenset())
            numbers[n] = sets.setdefault(members, len(sets))
            if value and not members:
                unknown.append((side, value, size))
        same = np.array_equal(numbers, values)
        maps.append(array if same else _renumbered(array, values, numbers.astype(np.min_scalar_type(len(sets)))))
    # A structure that no voxel bears keeps a value that does not occur, so that it is scored as empty.
    labels = {s.name: tuple(n for members, n in sets.items() if s.name in members) or (len(sets),) for s in structures}
    return Common(maps[0], maps[1], labels, tuple(unknown))


def _renumbered(array: np.ndarray, values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The map with `numbers[n]` instead of `values[n]`, which ascend."""
    if array.dtype.itemsize > 2:  # too far apart for a table of all values
        return numbers[np.searchsorted(values, array)]
    table = np.zeros(int(values.max(initial=0)) + 1, numbers.dtype)
    table[values] = numbers
    return table[array]


def _membership(structures: Sequence[Structure], side: str) -> dict[int, frozenset[str]]:
    out: dict[int, frozenset[str]] = {}
    for structure in structures:
        for value in getattr(structure, side):
            out[value] = out.get(value, frozenset()) | {structure.name}
    return out
