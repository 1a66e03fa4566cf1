"""`medseg evaluate`: predictions against references, to a case table, aggregates and a report.

    pairs      which prediction belongs to which reference; what is missing counts as a failure
    place      both label maps read, the prediction on the reference's grid, or refused with the distance in mm
    naming     their values in common numbers
    cases      every case scored on its own, what fails set aside
    score      one case -> rows of the case table
    instance_* the same where the maps hold instances: what is known of them, their classes, their numbers
    together   all cases -> aggregates, comparison, groups, sessions
    files      cases.csv, summary.json, report.html and the rest

One bad case never stops the others: it stands in failures.csv and in the report.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.metrics.table import summarise
from medseg.readers.options import ReadOptions
from medseg.reports.evaluation import evaluation_html
from medseg.workflows.evaluation.cases import Task, score_all, told
from medseg.workflows.evaluation.files import (
    COMPARE,
    GROUPS,
    LONGITUDINAL,
    REPORT,
    require_room,
    write_summary,
    write_tables,
)
from medseg.workflows.evaluation.headers import refused_by_headers
from medseg.workflows.evaluation.instance_plan import plan_of
from medseg.workflows.evaluation.pairs import Pairs, Person, groups, pair_up, people
from medseg.workflows.evaluation.pictures import pictures, scans_in
from medseg.workflows.evaluation.place import load_pair
from medseg.workflows.evaluation.pooled_numbers import curves, pooled_intervals
from medseg.workflows.evaluation.protocol import Protocol, load_protocol
from medseg.workflows.evaluation.report import report
from medseg.workflows.evaluation.result import Evaluation
from medseg.workflows.evaluation.score import CaseScore, filled
from medseg.workflows.evaluation.sessions import sessions
from medseg.workflows.evaluation.together import certainty, compared, grouped, pooled
from medseg.workflows.identity.guard import guarded
from medseg.workflows.lock import output_lock
from medseg.writers.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike

    from medseg.workflows.evaluation.naming import Structure
    from medseg.workflows.evaluation.place import Load

    #: Hears (cases done, cases in all, name of the case).
    Progress = Callable[[int, int, str], None]


def evaluate(
    pred: str | PathLike[str],
    ref: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    protocol: str | Path | Protocol | None = None,
    labels: Mapping[str, Any] | None = None,
    cases: str | PathLike[str] | None = None,
    group_by: str | None = None,
    compare: str | PathLike[str] | None = None,
    images: str | PathLike[str] | None = None,
    resample: bool = False,
    overwrite: bool = False,
    options: ReadOptions | None = None,
    case_key: str | PathLike[str] | None = None,
    announce: Callable[[Pairs], None] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score predictions against references.

    Args:
        pred: a label map, a folder of them, an output folder of `medseg predict`, or a list. Of instances where the
            protocol says so (`maps: instances`): ids, and what they are in the JSON beside them.
        ref: the same of the references; pairs are made by case name.
        out: folder for cases.csv, summary.json, failures.csv and report.html; None writes nothing.
        protocol: a shipped name, a YAML file, or a `Protocol`; None: 'default'.
        labels: structures and their values, instead of the protocol's; see `naming.structures_of`.
        cases: a CSV or JSON list with the columns case, subject, session and others; statistics then draw subjects.
        group_by: one of its columns; every metric is reported for each group too.
        compare: other predictions of the same references.
        images: the scans, for the report's pictures; a `medseg predict` folder knows its own.
        resample: put predictions that lie on another grid onto the reference's; recorded.
        overwrite: replace an evaluation that stands in `out`.
        options: the readers' options.
        case_key: the key of predictions called by pseudonyms; None: medseg-key.json beside the references or above.
            References, lists and images may call cases by name; what is written calls them by pseudonyms.
        announce: hears the pairs before anything is scored.
        progress: hears how far it is.

    Raises:
        InputError: MS-E101 no prediction has the name of a reference, MS-C120 no label maps.
        UsageError: MS-U160 to MS-U164 labels, protocol, or list of cases; MS-U401 the key cannot be used.
        OutputError: MS-E301 `out` is not empty, MS-O301 and MS-O302 it is in use or cannot be written.
    """
    rules = protocol if isinstance(protocol, Protocol) else load_protocol(protocol)
    task = Task(rules, labels if labels is not None else rules.structures, options or ReadOptions(), resample)
    listed = None if cases is None else Path(cases)
    key = None if case_key is None else Path(case_key)
    pairs = pair_up(Path(pred), Path(ref), instances=rules.of_instances, key_file=key)
    with guarded(cache(lambda: pairs.calls.of("", [file for pair in pairs.pairs for file in pair.ref.files]))):
        others = None
        if compare is not None:
            others = pair_up(Path(compare), Path(ref), instances=rules.of_instances, key_file=key)
        names = tuple(pair.name for pair in pairs.pairs)
        of = people(listed, names, pairs.calls)
        group_of = None if group_by is None else groups(of, group_by, listed)
        pairs = replace(pairs, refused=refused_by_headers(pairs, task.options))
        if announce is not None:
            announce(pairs)
        if out is None:
            return _run(task, pairs, others, of, group_of, progress)[0]
        scans = {} if images is None else scans_in(Path(images), pairs.calls)
        return _written(task, pairs, others, of, group_of, progress, Path(out), scans, overwrite=overwrite)


def _written(
    task: Task,
    pairs: Pairs,
    others: Pairs | None,
    of: Mapping[str, Person],
    group_of: Mapping[str, str] | None,
    progress: Progress | None,
    target: Path,
    scans: Mapping[str, Path],
    *,
    overwrite: bool,
) -> Evaluation:
    require_room(target, overwrite=overwrite)
    with output_lock(target):
        found, structures, load = _run(task, pairs, others, of, group_of, progress)
        write_tables(
            target,
            found.rows,
            found.failures,
            {COMPARE: found.comparison, GROUPS: found.groups, LONGITUDINAL: found.sessions},
        )
        write_summary(target, found.to_json())
        shown = pictures(found, structures, task.options, resample=task.resample, scans=scans, load=load)
        calls = pairs.calls
        write_text(target / REPORT, evaluation_html(report(found, calls.pred, calls.ref, shown)))
    return found


def _run(
    task: Task,
    pairs: Pairs,
    others: Pairs | None,
    of: Mapping[str, Person],
    group_of: Mapping[str, str] | None,
    progress: Progress | None,
) -> tuple[Evaluation, dict[str, list[Structure]], Load]:
    total = len(pairs.pairs) + (len(others.pairs) if others else 0)
    hear = progress or (lambda *_: None)
    plan = plan_of(pairs, task.labels) if task.protocol.of_instances else None
    load = load_pair if plan is None else plan.load
    scores, failures, structures = score_all(task, pairs, of, lambda n, name: hear(n, total, name), plan)
    rows, diagonals = filled(scores), {score.name: score.diagonal_mm for score in scores}
    rules = task.protocol
    statistics = {"level": rules.level, "draws": rules.draws, "seed": rules.seed}
    notes = [*(plan.notes if plan else ()), *told(scores, pairs)]
    comparison: list[dict[str, Any]] = []
    theirs: list[CaseScore] | None = None
    if others is not None:
        plan = None if plan is None else plan_of(others, task.labels, like=plan)
        theirs, unscored, _ = score_all(task, others, of, lambda n, name: hear(len(pairs.pairs) + n, total, name), plan)
        notes += [f"the other predictions: {note}" for note in (plan.notes if plan else ())]
        comparison = compared(rows, filled(theirs), rules)
        absent = {row.structure for row in rows} - {row.structure for score in theirs for row in score.rows}
        if absent and theirs:
            notes.append(f"not compared, the other predictions have no such structure: {', '.join(sorted(absent))}")
        notes += [f"{failure.case}: the other prediction was not scored ({failure.code})" for failure in unscored]
    table = grouped(rows, group_of, diagonals, rules) if group_of is not None and rows else []
    changes: list[dict[str, Any]] = []
    if any(person.session for person in of.values()):
        changes, said = sessions(pairs.pairs, of, structures, rules, task.options, resample=task.resample, load=load)
        notes += map(pairs.calls.of("", [file for pair in pairs.pairs for file in pair.ref.files]).text, said)
    asked = {*rules.centreline, *(rules.instances.structures if rules.instances else ())}
    if unknown := asked - {row.structure for row in rows}:
        notes.append(f"the protocol asks for structures that no map has: {', '.join(sorted(unknown))}")
    if scores and not rows:
        notes.append("no map holds any structure, so there is nothing to measure: name structures with --labels")
    found = Evaluation(
        rows=tuple(rows),
        summary=summarise(rows, diagonals, **statistics),
        pairs=pairs,
        failures=tuple(failures),
        protocol=rules,
        notes=tuple(notes),
        diagonals_mm=diagonals,
        comparison=tuple(comparison),
        groups=tuple(table),
        sessions=tuple(changes),
        pooled=pooled(scores),
        intervals=pooled_intervals(scores, rules, theirs),
        curves=curves(scores, rules),
        certainty=certainty(scores),
    )
    return found, structures, load
