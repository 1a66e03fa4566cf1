"""Numbers over the instances of all cases together, had other cases been scored: for bootstrap intervals.

A draw is how often each case occurs (see `medseg.metrics.bootstrap`). Matching does not depend on it, so it is done
once; an instance of a case drawn twice then counts twice at its place in the order of confidence.

Example: case 1 has a hit of score .9, case 2 a false positive of .8 and a missed instance. As they are, AP is that of
hit, false positive with two to find; drawn as (2, 0) it is 1; drawn as (0, 2) it is 0.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from medseg.jit import kernel
from medseg.metrics.instance.detection import RANGES, Detection
from medseg.metrics.instance.froc import RATES, Hits, iou_hits
from medseg.metrics.instance.matching import match_greedy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from medseg.metrics.instance.average_precision import ScoredCase
    from medseg.metrics.instance.matching import MatchCounts

    #: (D, C) how often each of C cases occurs in each of D draws -> (D,), NaN where a draw leaves it undefined.
    Statistic = Callable[[np.ndarray], np.ndarray]

_RATES = np.array(RATES)


def pooled_statistic(cases: Sequence[Detection], metric: str) -> Statistic | None:
    """The statistic of a metric of `pooled_detection_rows`; None for those that have none (sizes, outlines, counts).

    Args:
        cases: measured with the same thresholds, at least one.
        metric: 'pq', 'sq', 'rq', 'f1@0.5iou', 'precision@', 'recall@', 'ap@', 'box_ap@', 'map@0.1:0.5iou', 'ar@',
            'cpm@0.1iou' or 'cpm@centre'.
    """
    if metric in ("pq", "sq", "rq"):
        return _of_counts([case.metrics.panoptic for case in cases], metric)
    found = re.fullmatch(r"(f1|precision|recall|ap|box_ap|map|ar|cpm)@([0-9.:]+iou|centre)", metric)
    if found is None:
        return None
    name, at = found.groups()
    masks = [case.masks for case in cases]
    if name in ("map", "ar"):
        return _mean([_curve(masks, t, name == "ar") for t in RANGES[at]]) if at in RANGES else None
    if at == "centre":
        hits = [case.metrics.centres for case in cases if case.metrics.centres is not None]
        return _cpm(hits) if name == "cpm" and len(hits) == len(cases) else None
    if ":" in at:
        return None
    iou = float(at.removesuffix("iou"))
    if name == "cpm":
        return _cpm([iou_hits(case, iou) for case in masks])
    if name in ("ap", "box_ap"):
        return _curve([case.boxes for case in cases] if name == "box_ap" else masks, iou, recall=False)
    if any(iou not in case.metrics.matchings for case in cases):
        return None
    return _of_counts([case.metrics.matchings[iou].counts for case in cases], name)


def _of_counts(counts: Sequence[MatchCounts], name: str) -> Statistic:
    table = np.array([(c.tp, c.fp, c.fn, c.iou_sum) for c in counts], np.float64)

    def statistic(times: np.ndarray) -> np.ndarray:
        tp, fp, fn, total = (times @ table).T
        either = tp + (fp + fn) / 2
        part, whole = {
            "pq": (total, either), "sq": (total, tp), "rq": (tp, either), "f1": (tp, either),
            "precision": (tp, tp + fp), "recall": (tp, tp + fn),
        }[name]  # fmt: skip
        share = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
        return np.where(either > 0, share, 1.0)

    return statistic


def _curve(cases: Sequence[ScoredCase], iou: float, recall: bool) -> Statistic:
    """Average precision, or the recall at the end of the curve."""
    right, of, scores = [np.empty(0, bool)], [np.empty(0, np.int64)], [np.empty(0)]
    for n, case in enumerate(cases):
        hit = np.zeros(case.overlaps.n_pred, bool)
        hit[match_greedy(case.overlaps, case.scores, iou).preds] = True
        right.append(hit)
        of.append(np.full(len(hit), n))
        scores.append(case.scores)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits, owner = np.concatenate(right)[order], np.concatenate(of)[order]
    n_ref = np.array([case.overlaps.n_ref for case in cases], np.float64)

    def statistic(times: np.ndarray) -> np.ndarray:
        out = np.zeros(len(times))
        _average_precision(np.ascontiguousarray(times, np.float64), hits, owner, n_ref, recall, out)
        return out

    return statistic


def _mean(parts: Sequence[Statistic]) -> Statistic:
    return lambda times: np.mean([part(times) for part in parts], axis=0)


def _cpm(cases: Sequence[Hits]) -> Statistic:
    """Mean sensitivity at 1/8 to 8 false positives per scan; the order of events is settled once."""
    scores, owner, found = _events(cases)
    n_ref = np.array([case.n_ref for case in cases], np.float64)

    def statistic(times: np.ndarray) -> np.ndarray:
        out = np.full(len(times), np.nan)
        _mean_sensitivity(np.ascontiguousarray(times, np.float64), scores, owner, found, n_ref, _RATES, out)
        return out

    return statistic


def _events(cases: Iterable[Hits]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(scores, case, whether a lesion is found or a false positive counted) by falling score."""
    scores, owner, found = [np.empty(0)], [np.empty(0, np.int64)], [np.empty(0, bool)]
    for n, case in enumerate(cases):
        pred, ref = case.index.T
        best = np.full(case.n_ref, -np.inf)
        np.maximum.at(best, ref, case.scores[pred])
        best, wrong = best[np.isfinite(best)], np.delete(case.scores, pred)
        scores += [best, wrong]
        owner.append(np.full(len(best) + len(wrong), n))
        found += [np.ones(len(best), bool), np.zeros(len(wrong), bool)]
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return np.concatenate(scores)[order], np.concatenate(owner)[order], np.concatenate(found)[order]


@kernel
def _average_precision(times, hits, owner, n_ref, recall, out):
    """COCO's average precision of each draw, or its last recall."""
    n = len(hits)
    reached, best = np.empty(n), np.empty(n)
    for d in range(len(times)):
        right = total = wanted = 0.0
        for c in range(len(n_ref)):
            wanted += times[d, c] * n_ref[c]
        for i in range(n):
            weight = times[d, owner[i]]
            total += weight
            if hits[i]:
                right += weight
            reached[i] = right
            best[i] = right / total if total > 0 else 0.0
        if wanted == 0 or total == 0:
            out[d] = 1.0 if wanted == total else 0.0
            continue
        if recall:
            out[d] = right / wanted
            continue
        for i in range(n - 2, -1, -1):
            best[i] = max(best[i], best[i + 1])
        k, i = 0, 0
        while k <= 100 and i < n:
            if 100 * reached[i] >= k * wanted:
                out[d] += best[i]
                k += 1
            else:
                i += 1
        out[d] /= 101


@kernel
def _mean_sensitivity(times, scores, owner, found, n_ref, rates, out):
    """Mean over `rates` of the sensitivity, linear between the points of the curve, as `froc_curve` has it."""
    n = len(scores)
    for d in range(len(times)):
        scans = wanted = 0.0
        for c in range(len(n_ref)):
            scans += times[d, c]
            wanted += times[d, c] * n_ref[c]
        if wanted == 0:
            continue
        x = y = right = wrong = total = 0.0
        read, i = 0, 0
        while i < n and read < len(rates):
            score = scores[i]
            while i < n and scores[i] == score:
                if found[i]:
                    right += times[d, owner[i]]
                else:
                    wrong += times[d, owner[i]]
                i += 1
            next_x, next_y = wrong / scans, right / wanted
            while read < len(rates) and rates[read] < next_x:
                total += y + (next_y - y) * (rates[read] - x) / (next_x - x)
                read += 1
            x, y = next_x, next_y
        total += y * (len(rates) - read)
        out[d] = total / len(rates)
