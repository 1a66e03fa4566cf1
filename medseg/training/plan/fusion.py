"""Several annotators' answers become one: by their mean, by STAPLE, or by Dawid & Skene's model.

Voxels on which all annotators answer alike (A says 1, B says 0, C says 1) cannot be told apart by any of these, so they
are counted once as a pattern, and the expectation-maximisation runs over some hundred patterns instead of millions of
voxels: the same numbers, exactly. Each annotator has a confusion matrix, P(says s | true class c).

- mean: no model; the share of annotators that say a class. The largest share wins, of equals the lowest class.
- staple (Warfield et al., IEEE TMI 2004): the prior is fixed, the mean share of each class; each case by itself.
- dawid-skene (Applied Statistics 28, 1979): the prior is estimated too, and patterns of all cases are pooled, so that an
  annotator has one matrix in the whole dataset, and one who drew two cases is not judged by these two alone.

SimpleITK's MultiLabelSTAPLE is not used: where two of two annotators disagree it writes a class that nobody has named
(one above the highest), it takes no annotator who left a case or a voxel out, and it walks over voxels. Worked example:
A, B and C say 1, 1, 0 of a voxel. The mean says 1 with a share of 2/3; where C has been right 99 times out of 100, and A
and B 60 times, the odds of 1 are 0.6 / 0.4 * 0.6 / 0.4 * 0.01 / 0.99 = 0.023, and the voxel is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

METHODS = ("staple", "dawid-skene", "mean")
#: An annotator who did not answer: the voxel is of a case that they left out, or they marked it as unknown.
SILENT = -1
#: Rounds of expectation-maximisation at most, and the change of a posterior below which they end.
_MOST_ROUNDS, _STILL = 1000, 1e-7
#: No answer is impossible: with a probability of 0 one voxel would outweigh everything else.
_LEAST = 1e-12
_FIRST_RIGHT = 0.99


@dataclass(frozen=True)
class Patterns:
    """Answers that occur together.

    Args:
        answers: (P, R) class that each annotator says, `SILENT` where they say nothing.
        counts: (P,) voxels of each.
    """

    answers: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Fused:
    """What is taken for true of each pattern.

    Args:
        posterior: (P, C) probability of each class, or the share of annotators that say it; 0 where nobody answered.
        confusion: (R, C, C) voxels by annotator, true class (in expectation) and answer.
        likelihoods: log-likelihood of the answers after each round; () where there is no model.
    """

    posterior: np.ndarray
    confusion: np.ndarray
    likelihoods: tuple[float, ...] = ()

    @property
    def classes(self) -> np.ndarray:
        """(P,) the likeliest class, of equals the lowest; `SILENT` where nobody answered."""
        return np.where(self.posterior.any(1), self.posterior.argmax(1), SILENT)


def patterns_of(maps: Sequence[np.ndarray | None]) -> tuple[Patterns, np.ndarray]:
    """Count what the annotators say together.

    Args:
        maps: one for each annotator, integers of one shape, `SILENT` where nothing is said; None: not of this case.

    Returns:
        The patterns, and which of them each voxel is (raveled).
    """
    shape = next(one.shape for one in maps if one is not None)
    index = np.zeros(int(np.prod(shape)), np.int64)
    answers = np.zeros((1, 0), np.int64)
    for one in maps:  # numbered anew after each annotator: no code of many annotators and classes overflows
        said = np.full(index.shape, SILENT, np.int64) if one is None else one.ravel().astype(np.int64)
        width = int(said.max(initial=0)) + 2
        found, index = np.unique(index * width + said - SILENT, return_inverse=True)
        answers = np.column_stack([answers[found // width], found % width + SILENT])
    return Patterns(answers, np.bincount(index, minlength=len(answers))), index


def pooled(each: Sequence[Patterns]) -> Patterns:
    """Patterns of several cases as one table."""
    answers, index = np.unique(np.concatenate([one.answers for one in each]), axis=0, return_inverse=True)
    counts = np.bincount(index.ravel(), np.concatenate([one.counts for one in each]), minlength=len(answers))
    return Patterns(answers, counts.astype(np.int64))


def fuse(patterns: Patterns, classes: int, method: str) -> Fused:
    """What is true of each pattern.

    Args:
        patterns: of one case, or of all.
        classes: how many there are, background included.
        method: one of `METHODS`.

    Raises:
        ValueError: no such method.
    """
    if method not in METHODS:
        msg = f"there is no way {method!r} to fuse labels: {', '.join(METHODS)}"
        raise ValueError(msg)
    answers = patterns.answers
    votes = np.stack([(answers == c).sum(1) for c in range(classes)], 1)
    spoken = votes.sum(1)  # annotators who answered
    shares = votes / np.maximum(spoken, 1)[:, None]
    if method == "mean" or not spoken.any():
        return Fused(shares, _confusion(_decided(shares), answers, patterns.counts))
    counted = patterns.counts * (spoken > 0)
    prior = _normalised(shares.T @ counted)
    if method == "staple":  # Warfield's start: everybody is nearly always right
        right = np.where(np.eye(classes, dtype=bool), _FIRST_RIGHT, (1 - _FIRST_RIGHT) / max(classes - 1, 1))
        posterior, _ = _expect(answers, prior, np.broadcast_to(right, (answers.shape[1], classes, classes)))
    else:  # Dawid & Skene's: the shares
        posterior = shares
    likelihoods: list[float] = []
    for _ in range(_MOST_ROUNDS):
        confusion = _confusion(posterior, answers, counted)
        if method == "dawid-skene":
            prior = _normalised(posterior.T @ counted)
        before = posterior
        posterior, evidence = _expect(answers, prior, _normalised(confusion))
        likelihoods.append(float(counted @ evidence))
        if np.abs(posterior - before).max() < _STILL:
            break
    posterior = posterior * (spoken > 0)[:, None]
    return Fused(posterior, _confusion(posterior, answers, counted), tuple(likelihoods))


def sensitivity(confusion: np.ndarray) -> np.ndarray:
    """(R, C) share of a class's voxels that the annotator gave it; NaN where there is none."""
    true = confusion.sum(2)
    return np.divide(np.diagonal(confusion, axis1=1, axis2=2), true, out=np.full(true.shape, np.nan), where=true > 0)


def specificity(confusion: np.ndarray) -> np.ndarray:
    """(R, C) share of all other voxels that the annotator did not give the class; NaN where there is none."""
    right = np.diagonal(confusion, axis1=1, axis2=2)
    others = confusion.sum((1, 2))[:, None] - confusion.sum(2)
    wrongly = confusion.sum(1) - right
    return 1 - np.divide(wrongly, others, out=np.full(others.shape, np.nan), where=others > 0)


def disagreement(patterns: Patterns) -> float:
    """Share of the voxels that anybody labelled, and at least two spoke of, on which not all say the same."""
    low = np.where(patterns.answers == SILENT, np.iinfo(np.int64).max, patterns.answers).min(1)
    high = patterns.answers.max(1)
    labelled = (high > 0) & ((patterns.answers != SILENT).sum(1) > 1)
    total = float(patterns.counts[labelled].sum())
    return float(patterns.counts[labelled & (low != high)].sum()) / total if total else 0.0


def _expect(answers: np.ndarray, prior: np.ndarray, matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P, C) posterior and (P,) log-evidence of answers (P, R) under matrices (R, C true, C said)."""
    score = np.tile(np.log(np.maximum(prior, _LEAST)), (len(answers), 1))
    for said, matrix in zip(answers.T, np.log(np.maximum(matrices, _LEAST)), strict=True):
        score += np.where((said == SILENT)[:, None], 0.0, matrix.T[said])
    highest = score.max(1, keepdims=True)
    odds = np.exp(score - highest)
    total = odds.sum(1, keepdims=True)
    return odds / total, (highest + np.log(total))[:, 0]


def _confusion(posterior: np.ndarray, answers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    classes = posterior.shape[1]
    weighted = posterior * counts[:, None]
    out = np.zeros((answers.shape[1], classes, classes))
    for table, said in zip(out, answers.T, strict=True):
        spoken = said != SILENT
        np.add.at(table.T, said[spoken], weighted[spoken])
    return out


def _decided(shares: np.ndarray) -> np.ndarray:
    return np.eye(shares.shape[1])[shares.argmax(1)] * shares.any(1, keepdims=True)


def _normalised(values: np.ndarray) -> np.ndarray:
    total = values.sum(-1, keepdims=True)
    return np.divide(values, total, out=np.full(values.shape, 1.0 / values.shape[-1]), where=total > 0)
