"""What the case table says of all cases together: aggregates, two predictions compared, groups, sessions."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import MedsegError
from medseg.geometry import same_space
from medseg.metrics.compare import holm, paired_comparison
from medseg.metrics.group_gap import group_gap
from medseg.metrics.longitudinal import change
from medseg.metrics.table import by_metric, direction, penalised
from medseg.workflows.evaluation.place import load_pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.metrics.table import Row
    from medseg.readers.options import ReadOptions
    from medseg.workflows.evaluation.naming import Structure
    from medseg.workflows.evaluation.pairs import Pair, Person
    from medseg.workflows.evaluation.protocol import Protocol


def compared(rows: Sequence[Row], others: Sequence[Row], protocol: Protocol) -> list[dict[str, Any]]:
    """Rows of compare.csv: every metric that has a better and a worse, prediction less the other, paired by case.

    p values are Wilcoxon's, adjusted by Holm over all rows; differences are over subjects.
    """
    other = by_metric(others)
    out = []
    for (structure, metric), found in by_metric(rows).items():
        theirs = {row.case: row.value for row in other.get((structure, metric), ())}
        both = [row for row in found if row.case in theirs]
        if not both or not direction(metric):
            continue
        result = paired_comparison(
            [row.value for row in both], [theirs[row.case] for row in both],
            groups=[row.subject for row in both], level=protocol.level, draws=protocol.draws, seed=protocol.seed,
        )  # fmt: skip
        better = result.mean.estimate * direction(metric)
        out.append({
            "structure": structure, "metric": metric, "definition": both[0].definition,
            "n": result.n, "n_subjects": result.n_subjects, "n_differing": result.n_differing,
            "mean_difference": result.mean.estimate, "low": result.mean.low, "high": result.mean.high,
            "median_difference": result.median.estimate,
            "median_low": result.median.low, "median_high": result.median.high,
            "better": "prediction" if better > 0 else "other" if better < 0 else "neither",
            "p": result.p_value,
        })  # fmt: skip
    for row, adjusted in zip(out, holm([row["p"] for row in out]) if out else (), strict=True):
        row["p_holm"] = float(adjusted)
    return out


def grouped(
    rows: Sequence[Row], group_of: Mapping[str, str], diagonals_mm: Mapping[str, float], protocol: Protocol
) -> list[dict[str, Any]]:
    """Rows of groups.csv: each metric in each group, the worst one marked, with its distance to the best."""
    out = []
    for (structure, metric), found in by_metric(rows).items():
        if not direction(metric):
            continue
        result = group_gap(
            penalised(found, diagonals_mm), [group_of[row.case] for row in found],
            higher_is_better=direction(metric) > 0, subjects=[row.subject for row in found], statistic="mean",
            level=protocol.level, draws=protocol.draws, seed=protocol.seed,
        )  # fmt: skip
        for name, score in result.groups.items():
            out.append({
                "group": name, "structure": structure, "metric": metric, "definition": found[0].definition,
                "n": score.mean.n, "n_subjects": score.mean.n_groups,
                "mean": score.mean.estimate, "low": score.mean.low, "high": score.mean.high,
                "median": score.median.estimate,
                "is_worst": name == result.worst and len(result.groups) > 1, "gap": result.gap,
            })  # fmt: skip
    return out


def sessions(
    pairs: Sequence[Pair],
    of: Mapping[str, Person],
    structures: Sequence[Structure],
    protocol: Protocol,
    options: ReadOptions,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of longitudinal.csv: volume and lesions of each subject from one session to the next, in both maps.

    Lesions are matched where both scans lie on one grid; elsewhere only volumes are compared, and a note says so.
    """
    rule = protocol.instances
    series: dict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: _in_order(of[pair.name].session)):
        if pair.pred is not None:
            series[of[pair.name].subject].append(pair)
    out, notes = [], []
    for subject, scans in series.items():
        for earlier, later in pairwise(scans):
            try:
                volumes = [load_pair(pair, options) for pair in (earlier, later)]
            except MedsegError as error:
                notes.append(f"{earlier.name} to {later.name}: not compared ({error.code} {error.what})")
                continue
            together = same_space(volumes[0][1].grid, volumes[1][1].grid)
            if not together:
                notes.append(f"{earlier.name} and {later.name} lie on two grids: volumes compared, lesions not")
            for index, side in enumerate(("pred", "ref")):
                for structure in structures:
                    values = getattr(structure, side)
                    before, after = (np.isin(v[index].array, values) for v in volumes if v[index] is not None)
                    voxel_ml = [v[1].grid.voxel_ml for v in volumes]
                    if together:
                        found = change(
                            before, after, voxel_ml=voxel_ml[0], growth=protocol.growth,
                            connectivity=rule.connectivity if rule else 26,
                            minimum_mm3=rule.minimum_mm3 if rule else 0.0,
                        )  # fmt: skip
                        numbers = dict(found.rows())
                    else:
                        a, b = (float(m.sum()) * ml for m, ml in zip((before, after), voxel_ml, strict=True))
                        numbers = {"volume_before_ml": a, "volume_after_ml": b, "volume_change_ml": b - a}
                        numbers |= dict.fromkeys(_LESIONS, "")
                    out.append({
                        "subject": subject, "from": of[earlier.name].session, "to": of[later.name].session,
                        "structure": structure.name, "map": {"pred": "prediction", "ref": "reference"}[side], **numbers,
                    })  # fmt: skip
    return out, notes


_LESIONS = ("n_new", "n_vanished", "n_growing", "n_shrinking", "n_stable")


def _in_order(session: str) -> tuple[int, float, str]:
    """Sessions 2 and 10 by number, 2024-05-01 and 'baseline' by name."""
    try:
        return 0, float(session), session
    except ValueError:
        return 1, 0.0, session
