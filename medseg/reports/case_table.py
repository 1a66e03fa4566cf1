"""Every case and every number, and which cases failed how."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from medseg.reports.markup import row, table, text
from medseg.reports.numbers import metric_name, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.metrics.table import Row

#: What a status means where it is not 'ok'.
STATUS = {
    "ok": "ok",
    "both_empty": "both empty",
    "pred_empty": "prediction empty",
    "ref_empty": "reference empty",
    "pred_missing": "no prediction",
}
_EXPLAINED = {
    "both_empty": "absent from reference and prediction: overlap 1, distance 0",
    "pred_empty": "missed altogether: overlap 0, distance infinite",
    "ref_empty": "predicted where the reference has none: overlap 0, distance infinite",
}


def every_case(rows: Sequence[Row], first: Sequence[str] = ()) -> str:
    """One row a case and structure, one column a metric and definition.

    Args:
        rows: the whole case table.
        first: metrics whose columns come first.

    Raises:
        ValueError: two values of one metric and definition for one structure of one case.
    """
    place = {metric: n for n, metric in enumerate(first)}
    found = dict.fromkeys((r.metric, r.definition) for r in rows)
    columns = sorted(found, key=lambda column: place.get(column[0], len(place)))
    grouped: dict[tuple[str, str], dict[tuple[str, str], Row]] = defaultdict(dict)
    for r in rows:
        line, column = grouped[r.case, r.structure], (r.metric, r.definition)
        if column in line:
            msg = f"{r.metric} of {r.structure!r} in case {r.case!r} stands twice in the table"
            raise ValueError(msg)
        line[column] = r
    with_subject = any(r.subject != r.case for r in rows)
    body = []
    for (case, structure), line in grouped.items():
        states = dict.fromkeys(r.status for r in line.values())
        cells = [text(next(iter(line.values())).subject)] if with_subject else []
        cells += [text(structure or "whole image"), _states(states)]
        cells += [_value(line.get(column)) for column in columns]
        body.append(row(text(case), cells))
    heads: list[str | tuple[str, str]] = ["Case", *(["Subject"] if with_subject else []), "Structure", "Status"]
    heads += [("num", text(metric_name(m)) + (f" <small>{text(d)}</small>" if d else "")) for m, d in columns]
    return table("Every case", heads, body, kind="cases sortable")


def failures(
    rows: Sequence[Row], missing: Sequence[str], extra: Sequence[str], failed: Sequence[tuple[str, str, str]]
) -> str:
    """What went wrong and where, '' where nothing did."""
    lines = [(case, "no prediction", "scored as the worst value of every metric") for case in missing]
    lines += [(case, f"failed, {code}", what) for case, code, what in failed]
    states: dict[tuple[str, str], list[str]] = defaultdict(list)
    for r in rows:
        if r.status in _EXPLAINED and r.structure not in states[r.case, r.status]:
            states[r.case, r.status].append(r.structure)
    n_structures = len({r.structure for r in rows})
    for (case, status), structures in states.items():
        every = len(structures) == n_structures > 3
        which = f"all {n_structures} structures" if every else ", ".join(structures)
        lines.append((case, f"{STATUS[status]}: {which}", _EXPLAINED[status]))
    lines += [(case, "no reference", "prediction left out of every number") for case in extra]
    if not lines:
        return ""
    body = [row(text(case), [("", "What", text(what)), ("", "Means", text(means))]) for case, what, means in lines]
    return table("Cases that need a look", ["Case", "What happened", "What it means"], body, kind="stack looks")


def _states(states: dict[str, None]) -> str:
    words = text(", ".join(STATUS.get(s, s) for s in states))
    return words if set(states) <= {"ok", "both_empty"} else f'<span class="bad">{words}</span>'


def _value(found: Row | None) -> str | tuple[str, str, str]:
    if found is None:
        return ""
    value = shown(found.value, found.metric)
    return ("num bad", "", value) if value.endswith("inf") else ("num", "", value)
