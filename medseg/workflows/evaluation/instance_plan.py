"""What the classes of all cases are, settled before anything is scored, and both maps of a case with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import MedsegError
from medseg.labels import LabelTable
from medseg.metrics.instance.per_instance import renumbered
from medseg.workflows.evaluation.instance_files import Known, class_names, known_of
from medseg.workflows.evaluation.naming import Structure, structures_of
from medseg.workflows.evaluation.place import load_pair

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from medseg.readers.cases.label_maps import LabelMap
    from medseg.readers.options import ReadOptions
    from medseg.volume import Volume
    from medseg.workflows.evaluation.pairs import Pair, Pairs

#: What stands in the structure column for all classes together, and for the one class that nothing names.
ALL, UNNAMED = "all instances", "instances"


@dataclass(frozen=True, eq=False)
class Plan:
    """The classes.

    Args:
        structures: a structure a class, by its label values (class index + 1) in either map.
        one_class: whether all instances are of one class, whatever is said of them.
        notes: what to tell of it.
        stuff: class indices of the reference that are background: the predictions say that they have no instances.
    """

    structures: tuple[Structure, ...]
    one_class: bool
    notes: tuple[str, ...] = ()
    stuff: frozenset[int] = frozenset()

    @property
    def shown(self) -> list[Structure]:
        """The structures, and behind several all of them together."""
        if len(self.structures) < 2:
            return list(self.structures)
        pred, ref = (tuple({v for s in self.structures for v in getattr(s, side)}) for side in ("pred", "ref"))
        return [*self.structures, Structure(ALL, pred, ref)]

    @property
    def same(self) -> list[tuple[int, int]]:
        """(class index in the prediction, in the reference) that mean one structure."""
        return [(p - 1, r - 1) for s in self.structures for p in s.pred or (0,) for r in s.ref or (0,)]

    def load(self, pair: Pair, options: ReadOptions, *, resample: bool) -> tuple[Volume | None, Volume]:
        """Both maps with label values instead of ids, for pictures and for sessions; errors as for `load_pair`."""
        pred, ref = load_pair(pair, options, resample=resample)
        mine = None if pred is None or pair.pred is None else self._values(pred, known_of(pair.pred))
        return mine, self._values(ref, known_of(pair.ref), self.stuff)

    def _values(self, volume: Volume, known: Known, without: Collection[int] = ()) -> Volume:
        left_out = {i for i, c in (known.classes or {}).items() if c in without} | known.ignore
        ids = np.array([i for i in np.unique(volume.array).tolist() if i and i not in left_out], np.int64)
        classes = {} if known.classes is None or self.one_class else known.classes
        values = np.array([classes.get(i, 0) + 1 for i in ids.tolist()], np.int64)
        return replace(volume, array=renumbered(volume.array, ids, values), labels=None)


def plan_of(pairs: Pairs, wanted: Mapping[str, Any] | None, like: Plan | None = None) -> Plan:
    """The classes of all cases.

    Where the predictions or the references say nothing of classes, all instances are of one.

    Args:
        pairs: the cases; what of them cannot be read is left to their scoring.
        wanted: the user's own structures, see `naming.structures_of`.
        like: of the predictions that these are compared with; one class is called as it is there.

    Raises:
        UsageError: MS-U160 from `structures_of`.
    """
    sides = [_Side.of(pair.pred for pair in pairs.pairs), _Side.of(pair.ref for pair in pairs.pairs)]
    notes = _of_scores(sides[0])
    if wanted is None:
        stuff = sides[0].stuff
        sides = [side.without(stuff) for side in sides]
    lost = sides[1].lost
    if wanted is None and not all(side.says for side in sides):
        names = {name for side in sides for name in side.names.values()}
        name = names.pop() if len(names) == 1 else UNNAMED
        if like is not None and len(like.structures) == 1:
            name = like.structures[0].name
        several = [what for what, side in zip(_SIDES, sides, strict=True) if side.says and len(side.classes) > 1]
        if several:
            notes.append(f"only the {several[0]} have classes: all instances count as of one class")
        return Plan((Structure(name, (1,), (1,)),), True, tuple(notes), lost)
    found = sides[0].classes | sides[1].classes
    tables = [
        side.table(side.classes if other.names else found)  # names of one side alone are those of both
        for side, other in zip(sides, reversed(sides), strict=True)
    ]
    return Plan(tuple(structures_of(tables[0], tables[1], {c + 1 for c in found}, wanted)), False, tuple(notes), lost)


_SIDES = ("predictions", "references")


@dataclass(frozen=True)
class _Side:
    """What the maps of one side say together: of how many there are scores, which classes there are, their names."""

    maps: int
    scored: int
    says: bool
    classes: frozenset[int]
    names: dict[int, str]
    stuff: dict[int, str] = field(default_factory=dict)
    lost: frozenset[int] = frozenset()

    def without(self, stuff: Mapping[int, str]) -> _Side:
        """The same but for classes without instances, where it does not call these indices something else."""
        lost = frozenset(c for c, name in stuff.items() if self.names.get(c, name) == name)
        names = {c: name for c, name in self.names.items() if c not in lost}
        return replace(self, classes=self.classes - lost, names=names, lost=lost)

    @classmethod
    def of(cls, items: Iterable[LabelMap | None]) -> _Side:
        there = [item for item in items if item is not None]
        known = list(_readable(there))
        names: dict[int, str] = {}
        for found in known:
            names = {**found.names, **names}
        for item in there:
            names = {**class_names(item), **names}
        classes = {c for k in known for c in (k.classes or {}).values()}
        scored = sum(k.scores is not None for k in known)
        stuff = {c: name for k in known for c, name in k.stuff.items()}
        return cls(len(known), scored, any(k.classes is not None for k in known), frozenset(classes), names, stuff)

    def table(self, classes: Iterable[int]) -> LabelTable | None:
        """The names by label value, those of the `classes` at least; None where nothing has a name, or two have one."""
        names = {c: f"label {c + 1}" for c in classes} | self.names
        if not self.names or len(set(names.values())) < len(names):
            return None
        return LabelTable.from_json({"value": c + 1, "name": name} for c, name in names.items())


def _readable(items: Iterable[LabelMap]) -> Iterator[Known]:
    for item in items:
        try:
            yield known_of(item)
        except MedsegError:
            continue


def _of_scores(pred: _Side) -> list[str]:
    without = pred.maps - pred.scored
    if not without:
        return []
    some = "no prediction has" if not pred.scored else f"{without} of {pred.maps} predictions have no"
    return [f"{some} scores: every instance {'' if not pred.scored else 'of these '}counts with score 1"]
