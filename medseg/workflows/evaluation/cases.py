"""Every case scored on its own: what cannot be read or compared is a failure of that case alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, MedsegError
from medseg.metrics.contingency import contingency
from medseg.workflows.evaluation.confidence import confidence, maps_beside
from medseg.workflows.evaluation.instance_score import score_instances
from medseg.workflows.evaluation.naming import Structure, structures_of
from medseg.workflows.evaluation.place import load_pair
from medseg.workflows.evaluation.score import CaseScore, score_case, with_confidence
from medseg.workflows.outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import medseg
    from medseg.labels import LabelTable
    from medseg.readers.options import ReadOptions
    from medseg.workflows.evaluation.instance_plan import Plan
    from medseg.workflows.evaluation.pairs import Pair, Pairs, Person
    from medseg.workflows.evaluation.protocol import Protocol

#: Turned, pasted or resampled: the arrays of the prediction and of the maps beside it are no longer alike.
_MOVED = ("MS-G204", "MS-G205", "MS-G207", "MS-E201")


@dataclass(frozen=True)
class Task:
    """What is asked of every case.

    Args:
        protocol: what is measured, and how it is put together.
        labels: structures and their values, see `naming.structures_of`; None: as the maps name them.
        options: the readers' options.
        resample: put predictions that lie on another grid onto the reference's.
    """

    protocol: Protocol
    labels: Mapping[str, Any] | None
    options: ReadOptions
    resample: bool


def score_all(
    task: Task, pairs: Pairs, of: Mapping[str, Person], hear: Callable[[int, str], None], plan: Plan | None
) -> tuple[list[CaseScore], list[Failure], dict[str, list[Structure]]]:
    """Score the cases, one after the other.

    Args:
        task: what is asked.
        pairs: predictions and references.
        of: case -> whose it is.
        hear: hears (cases done, name of the case).
        plan: of maps of instances, None of others.

    Returns:
        The scores by name, what failed, and case -> its structures.

    Raises:
        MedsegError: of exit code 2, when the command line is wrong and not a case.
    """
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


def told(scores: Sequence[CaseScore], pairs: Pairs) -> list[str]:
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
    pair: Pair, pred: medseg.Volume | None, ref: medseg.Volume, task: Task, known: LabelTable | None
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
