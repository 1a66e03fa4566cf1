"""Planes that share an orientation and a matrix -> the volumes they form.

Planes at one place twice or more mean several volumes (echoes, b-values, instants, Dixon images) or copies.
A key splits them only if it truly separates: every part must cover at least half of the places or be an even stack
that lies over the others, and no place may be left twice. So a CT whose AcquisitionNumber counts slices does not fall
apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError
from medseg.readers.dicom.geometry import classify, heights, places, sort_planes
from medseg.readers.dicom.pixels import plane_values
from medseg.readers.dicom.planes import SPLIT_KEYS, WHOLE_KEYS, Plane
from medseg.volume import Decision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, eq=False)
class Part:
    """The planes of one volume, sorted, and the values that tell it from its siblings."""

    planes: tuple[Plane, ...]
    keys: Mapping[str, Any] = field(default_factory=dict)
    decisions: tuple[Decision, ...] = ()


class _UnresolvedError(Exception):
    """No key tells the planes at one place apart."""


def split_volumes(planes: Sequence[Plane]) -> list[Part]:
    """The volumes that planes of one orientation and matrix form.

    Raises:
        GeometryError: MS-D112 when planes at one place differ and nothing tells which volume each belongs to.
    """
    planes = sort_planes(planes)
    if not _doubled(planes):
        return _interleaved(planes) or [Part(tuple(planes))]
    try:
        return _noted(_by_keys(planes, SPLIT_KEYS))
    except _UnresolvedError:
        pass
    once, copies = _without_copies(planes)
    if copies:
        note = f"{len(copies)} slices left out that repeat another's pixels at its place, such as {copies[0].path.name}"
        decision = Decision("MS-D203", note)
        if not _doubled(once):
            return [Part(tuple(once), decisions=(decision,))]
        try:
            return [Part(p.planes, p.keys, (*p.decisions, decision)) for p in _noted(_by_keys(once, SPLIT_KEYS))]
        except _UnresolvedError:
            pass
    if ranked := _by_rank(planes):
        return ranked
    group = next(g for g in places(once) if len(g) > 1)
    raise GeometryError(
        "MS-D112",
        f"{len(group)} different slices lie at {group[0].place} ({', '.join(p.path.name for p in group[:3])}) and "
        "nothing tells which volume each belongs to",
        file=group[0].path.parent,
        mend="take the slices that do not belong out of the folder, or export the series again",
    )


def _doubled(planes: Sequence[Plane]) -> bool:
    return len(places(planes)) < len(planes)


def _by_keys(planes: Sequence[Plane], keys: Sequence[str]) -> list[Part]:
    if not _doubled(planes):
        return [Part(tuple(planes))]
    enough = len(places(planes)) / 2
    for n, key in enumerate(keys):
        groups = _partition(planes, lambda p, key=key: p.keys.get(key))
        if len(groups) < 2:
            continue
        if any(len(places(group)) < enough for group in groups.values()) and not _overlaid(list(groups.values())):
            continue
        try:
            parts = []
            for value, group in groups.items():
                inner = _by_keys(group, keys[n + 1 :])
                parts += [Part(part.planes, {key: value, **part.keys}) for part in inner]
        except _UnresolvedError:
            continue
        return parts
    raise _UnresolvedError


def _partition(planes: Sequence[Plane], value: Callable[[Plane], Any]) -> dict[Any, list[Plane]]:
    groups: dict[Any, list[Plane]] = {}
    for plane in planes:
        groups.setdefault(value(plane), []).append(plane)
    return dict(sorted(groups.items(), key=lambda item: _sortable(item[0])))


def _sortable(value: Any) -> tuple:
    if value is None:
        return (0,)
    if isinstance(value, tuple):
        return (3, *map(_sortable, value))
    return (1, value) if isinstance(value, int | float) else (2, str(value))


def _noted(parts: list[Part]) -> list[Part]:
    names = list(dict.fromkeys(name for part in parts for name in part.keys))
    note = Decision("MS-D204", f"one of {len(parts)} volumes in this series, told apart by {', '.join(names)}", False)
    return [Part(part.planes, part.keys, (note,)) for part in parts]


def _interleaved(planes: list[Plane]) -> list[Part]:
    """Two or more even stacks that lie between each other.

    Where together they are an even stack too, only by what one volume never mixes; such are two phases of a CT half a
    step apart. The concatenations of an MR scan differ in their time alone and stay together.
    """
    keys = SPLIT_KEYS
    if classify(planes).kind in ("regular", "tilted", "single-slice"):
        keys = (*WHOLE_KEYS, "acquisition") if planes[0].header.get("modality") == "CT" else WHOLE_KEYS
    for key in keys:
        groups = _partition(planes, lambda p, key=key: p.keys.get(key))
        if 2 <= len(groups) <= 8 and _overlaid(list(groups.values())):
            return _noted([Part(tuple(group), {key: value}) for value, group in groups.items()])
    return []


def _overlaid(groups: Sequence[Sequence[Plane]]) -> bool:
    """Whether each group is an even stack of three places or more, and all of them have a stretch in common."""
    stacks = [[group[0] for group in places(planes)] for planes in groups]
    if any(len(stack) < 3 or classify(stack).kind not in ("regular", "tilted") for stack in stacks):
        return False
    ends = np.array([heights([stacks[0][0], *stack])[[1, -1]] for stack in stacks])
    return bool(ends[:, 0].max() < ends[:, 1].min())


def _without_copies(planes: Sequence[Plane]) -> tuple[list[Plane], list[Plane]]:
    """Planes without those that repeat another's place and every pixel of it, and those."""
    once, copies = [], []
    for group in places(planes):
        kept: list[tuple[Plane, np.ndarray]] = []
        for plane in group:
            if len(group) == 1:
                kept.append((plane, np.empty(0)))
                continue
            values = plane_values(plane)
            if any(np.array_equal(values, other) for _, other in kept):
                copies.append(plane)
            else:
                kept.append((plane, values))
        once += [plane for plane, _ in kept]
    return once, copies


_RANKS: dict[str, Callable[[Plane], Any]] = {
    "trigger time": lambda p: float(p.header.get("trigger_time") or "nan"),
    "acquisition time": lambda p: p.keys.get("acquisition time"),
    "content time": lambda p: p.keys.get("content time"),
    "instance number": lambda p: (
        None if p.header.get("instance_number") is None else (p.header.get("instance_number"), p.frame)
    ),
}


def _by_rank(planes: Sequence[Plane]) -> list[Part]:
    """As many volumes as there are planes at every place, the n-th of each place in the n-th volume."""
    groups = places(planes)
    count = len(groups[0])
    if any(len(group) != count for group in groups):
        return []
    for name, value in _RANKS.items():
        if any(len({value(p) for p in group} - {None}) < count for group in groups):
            continue
        if name == "trigger time" and any(not value(p) >= 0 for p in planes):
            continue
        ordered = [sorted(group, key=value) for group in groups]
        note = Decision("MS-D205", f"one of {count} volumes in this series, told apart by the order of {name} alone")
        return [Part(tuple(group[n] for group in ordered), {"rank": n}, (note,)) for n in range(count)]
    return []
