"""Scans of one subject in a row: what became of each structure from one session to the next, in both maps."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import MedsegError
from medseg.geometry import same_space
from medseg.metrics.longitudinal import change
from medseg.workflows.evaluation.place import load_pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from medseg.readers.options import ReadOptions
    from medseg.volume import Volume
    from medseg.workflows.evaluation.naming import Structure
    from medseg.workflows.evaluation.pairs import Pair, Person
    from medseg.workflows.evaluation.place import Load
    from medseg.workflows.evaluation.protocol import Protocol

_LESIONS = ("n_new", "n_vanished", "n_growing", "n_shrinking", "n_stable")


def sessions(
    pairs: Iterable[Pair],
    of: Mapping[str, Person],
    structures: Mapping[str, Sequence[Structure]],
    protocol: Protocol,
    options: ReadOptions,
    *,
    resample: bool = False,
    load: Load = load_pair,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of longitudinal.csv, and notes on what could not be compared.

    Lesions are matched where both scans lie on one grid; elsewhere volumes alone are compared, and a note says so.

    Args:
        pairs: the cases; those without a prediction are left out, and a note says so.
        of: whose scan each is, and which session.
        structures: case -> its structures, which are followed by name.
        protocol: its `growth`, and its `instances` for what counts as a lesion.
        options: the readers' options.
        resample: as the evaluation was made.
        load: reads both maps of a case in values that mean structures.
    """
    series: dict[str, list[Pair]] = defaultdict(list)
    rows, notes = [], []
    for pair in sorted(pairs, key=lambda pair: _in_order(of[pair.name].session)):
        if pair.pred is None:
            notes.append(f"{pair.name}: without a prediction, left out of the comparison of sessions")
        else:
            series[of[pair.name].subject].append(pair)
    for subject, scans in series.items():
        for earlier, later in pairwise(scans):
            about = {"subject": subject, "from": of[earlier.name].session, "to": of[later.name].session}
            try:
                before, after = (load(pair, options, resample=resample) for pair in (earlier, later))
            except MedsegError as error:
                notes.append(f"{earlier.name} to {later.name}: not compared ({error.code} {error.what})")
                continue
            if not same_space(before[1].grid, after[1].grid):
                notes.append(f"{earlier.name} and {later.name} lie on two grids: volumes compared, lesions not")
            for name, side, index in (("prediction", "pred", 0), ("reference", "ref", 1)):
                one, other = before[index], after[index]
                if one is not None and other is not None:
                    values = [{s.name: getattr(s, side) for s in structures.get(p.name, ())} for p in (earlier, later)]
                    changed = _changes(one, other, values, protocol)
                    rows += [about | {"structure": structure, "map": name, **numbers} for structure, numbers in changed]
    return rows, notes


def _changes(
    before: Volume, after: Volume, values: Sequence[Mapping[str, tuple[int, ...]]], protocol: Protocol
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(structure, numbers) of one map at two times, in each of which a structure may have values of its own."""
    rule = protocol.instances
    lesion = {"connectivity": rule.connectivity, "minimum_mm3": rule.minimum_mm3} if rule else {}
    for name in dict.fromkeys(name for known in values for name in known):
        masks = [np.isin(v.array, known.get(name, ())) for v, known in zip((before, after), values, strict=True)]
        if same_space(before.grid, after.grid):
            found = change(*masks, voxel_ml=before.grid.voxel_ml, growth=protocol.growth, **lesion)
            yield name, dict(found.rows())
        else:
            a, b = (float(m.sum()) * v.grid.voxel_ml for m, v in zip(masks, (before, after), strict=True))
            numbers = {"volume_before_ml": a, "volume_after_ml": b, "volume_change_ml": b - a}
            yield name, numbers | dict.fromkeys(_LESIONS, "")


def _in_order(session: str) -> tuple[int, float, str]:
    """Sessions 2 and 10 by number, 2024-05-01 and 'baseline' by name."""
    try:
        return 0, float(session), session
    except ValueError:
        return 1, 0.0, session
