"""`medseg evaluate`: predictions against references, to a case table, aggregates and a report.

    pairs      which prediction belongs to which reference; what is missing counts as a failure
    place      both label maps read, the prediction on the reference's grid, or refused with the distance in mm
    naming     their values in common numbers
    score      one case -> rows of the case table
    instance_* the same where the maps hold instances: what is known of them, their classes, their numbers
    together   all cases -> aggregates, comparison, groups, sessions
    files      cases.csv, summary.json, report.html and the rest

One bad case never stops the others: it stands in failures.csv and in the report.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, MedsegError
from medseg.metrics.contingency import contingency
from medseg.metrics.table import summarise
from medseg.readers.options import ReadOptions
from medseg.reports.evaluation import evaluation_html
from medseg.workflows.evaluation.confidence import confidence, maps_beside
from medseg.workflows.evaluation.files import (
    COMPARE,
    GROUPS,
    LONGITUDINAL,
    REPORT,
    require_room,
    write_summary,
    write_tables,
)
from medseg.workflows.evaluation.instance_plan import Plan, plan_of
from medseg.workflows.evaluation.instance_score import score_instances
from medseg.workflows.evaluation.naming import Structure, structures_of
from medseg.workflows.evaluation.pairs import Pair, Pairs, Person, groups, pair_up, people
from medseg.workflows.evaluation.pictures import pictures, scans_in
from medseg.workflows.evaluation.place import load_pair
from medseg.workflows.evaluation.pooled_numbers import curves, pooled_intervals
from medseg.workflows.evaluation.protocol import Protocol, load_protocol
from medseg.workflows.evaluation.report import report
from medseg.workflows.evaluation.result import Evaluation
from medseg.workflows.evaluation.score import CaseScore, filled, score_case, with_confidence
from medseg.workflows.evaluation.sessions import sessions
from medseg.workflows.evaluation.together import certainty, compared, grouped, pooled
from medseg.workflows.identity.guard import guarded
from medseg.workflows.lock import output_lock
from medseg.workflows.outcome import Failure
from medseg.writers.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    import medseg
    from medseg.labels import LabelTable
    from medseg.workflows.evaluation.place import Load

    #: Hears (cases done, cases in all, name of the case).
    Progress = Callable[[int, int, str], None]

#: Turned, pasted or resampled: the arrays of the prediction and of the maps beside it are no longer alike.
_MOVED = ("MS-G204", "MS-G205", "MS-G207", "MS-E201")


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
    task = _Task(rules, labels if labels is not None else rules.structures, options or ReadOptions(), resample)
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
        if announce is not None:
            announce(pairs)
        if out is None:
            return _run(task, pairs, others, of, group_of, progress)[0]
        scans = {} if images is None else scans_in(Path(images), pairs.calls)
        return _written(task, pairs, others, of, group_of, progress, Path(out), scans, overwrite=overwrite)


def _written(
    task: _Task,
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


@dataclass(frozen=True)
class _Task:
    protocol: Protocol
    labels: Mapping[str, Any] | None
    options: ReadOptions
    resample: bool


def _run(
    task: _Task,
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
    scores, failures, structures = _score_all(task, pairs, of, lambda n, name: hear(n, total, name), plan)
    rows, diagonals = filled(scores), {score.name: score.diagonal_mm for score in scores}
    rules = task.protocol
    statistics = {"level": rules.level, "draws": rules.draws, "seed": rules.seed}
    notes = [*(plan.notes if plan else ()), *_told(scores, pairs)]
    comparison: list[dict[str, Any]] = []
    theirs: list[CaseScore] | None = None
    if others is not None:
        plan = None if plan is None else plan_of(others, task.labels, like=plan)
        theirs, unscored, _ = _score_all(
            task, others, of, lambda n, name: hear(len(pairs.pairs) + n, total, name), plan
        )
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


def _score_all(
    task: _Task, pairs: Pairs, of: Mapping[str, Person], hear: Callable[[int, str], None], plan: Plan | None
) -> tuple[list[CaseScore], list[Failure], dict[str, list[Structure]]]:
    scores, failures, structures, known = [], [], {}, None
    # Cases without a prediction come last: their structures are called as the predictions of the others call them.
    for n, pair in enumerate(sorted(pairs.pairs, key=lambda pair: pair.pred is None)):
        hear(n, pair.name)
        try:
            pred, ref = load_pair(pair, task.options, resample=task.resample)
            if plan is not None:
                structures[pair.name] = plan.shown
                scores.append(score_instances(pair, of[pair.name].subject, pred, ref, plan, task.protocol))
                continue
            wanted = structures[pair.name] = _structures(pair, pred, ref, task, known)
            known = known or (pred and pred.labels)
            score = score_case(pair.name, of[pair.name].subject, pred, ref, wanted, task.protocol)
            scores.append(_with_confidence(score, pair, pred, ref, wanted, task.options))
        except (MedsegError, OSError, MemoryError) as error:
            if isinstance(error, MedsegError) and error.exit_code == 2:
                raise  # the command line is wrong, not this case
            failures.append(Failure.of(pair.name, error, _file(pair), pairs.calls.of(pair.name, pair.ref.files)))
    hear(len(pairs.pairs), "")
    scores.sort(key=lambda score: score.name)
    return scores, failures, structures


def _told(scores: Sequence[CaseScore], pairs: Pairs) -> list[str]:
    """What is to be said of each case, without the names of files that tell of somebody."""
    files = {pair.name: pair.ref.files for pair in pairs.pairs}
    return [f"{s.name}: {pairs.calls.of(s.name, files[s.name]).text(note)}" for s in scores for note in s.notes]


def _with_confidence(
    score: CaseScore,
    pair: Pair,
    pred: medseg.Volume | None,
    ref: medseg.Volume,
    structures: Sequence[Structure],
    options: ReadOptions,
) -> CaseScore:
    """The case with what lies beside its prediction scored; maps that cannot be used are noted, the case stands."""
    if pair.pred is None or pred is None or not any(maps_beside(pair.pred)):
        return score
    why = None
    if any(s.pred != s.ref for s in structures):
        why = "its values mean other structures than the reference's"
    elif any(decision.code in _MOVED for decision in pred.source.decisions):
        why = "the prediction was put onto the reference's grid, they were not"
    if why is not None:
        return replace(score, notes=(*score.notes, f"maps of certainty beside the prediction left out: {why}"))
    try:
        found = confidence(pair.pred, pred.array, ref.array, ref.grid, options)
    except MedsegError as error:
        return replace(score, notes=(*score.notes, f"{error.code} {error.what} ({error.file})"))
    return score if found is None else with_confidence(score, found)


def _structures(
    pair: Pair, pred: medseg.Volume | None, ref: medseg.Volume, task: _Task, known: LabelTable | None
) -> list[Structure]:
    table = contingency(ref.array if pred is None else pred.array, ref.array)
    values = sorted({int(v) for v in (*table.pred_values, *table.ref_values) if v > 0})
    names = (ref.labels or known) if pred is None else pred.labels
    if task.labels is None and pred is not None and (names is None) != (ref.labels is None):
        _require_values(pair)
    return structures_of(names, ref.labels, values, task.labels)


def _require_values(pair: Pair) -> None:
    """Masks have names and no values: they cannot be matched with a map that has values and no names."""
    for masks, other in ((pair.pred, pair.ref), (pair.ref, pair.pred)):
        if masks is not None and other is not None and len(masks.files) > 1:
            raise InputError(
                "MS-E105",
                f"{masks.folder or masks.files[0].parent} has a mask a structure, and nothing says which values of "
                "this label map they are",
                file=other.files[0],
                mend="say it with --labels, such as liver=liver:5 (PRED:REF, a name on the side of the masks)",
            )


def _file(pair: Pair) -> Path:
    return (pair.pred or pair.ref).files[0]
