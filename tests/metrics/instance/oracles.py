"""Plain ways to the same numbers: slow, and written from the definitions alone."""

import itertools

import numpy as np
from scipy.optimize import linear_sum_assignment


def blocks(*places, shape=(1, 1, 24)):
    """A map of instances 1, 2, ... given as slices of the last axis."""
    labels = np.zeros(shape, np.int16)
    for number, (start, stop) in enumerate(places, 1):
        labels[..., start:stop] = number
    return labels


def ious(pred, ref):
    """(P, R) IoU of all pairs of numbers above 0, mask by mask."""
    masks = [[labels == v for v in np.unique(labels) if v] for labels in (pred, ref)]
    table = np.array([[(p & r).sum() / (p | r).sum() for r in masks[1]] for p in masks[0]])
    return table.reshape(len(masks[0]), len(masks[1]))


def best_matching(table, reaches):
    """(pairs, total IoU) of the best of all matchings, tried one after the other."""
    if table.shape[0] > table.shape[1]:
        table = table.T
    best = (0, 0.0)
    for columns in itertools.permutations(range(table.shape[1]), table.shape[0]):
        found = [table[i, j] for i, j in enumerate(columns) if table[i, j] > 0 and reaches(table[i, j])]
        best = max(best, (len(found), sum(found)))
    return best


def stardist(table, threshold):
    """The scores of stardist 0.9.1, matching.py (Weigert et al., BSD-3-Clause), from a dense (P, R) table of IoU."""
    n_pred, n_ref = table.shape
    matched, reached = min(n_pred, n_ref), table >= threshold
    rows, columns = linear_sum_assignment(-reached.astype(float) - table / (2 * max(matched, 1)))
    ok = reached[rows, columns]
    tp, total = int(ok.sum()), float(table[rows, columns][ok].sum())
    fp, fn = n_pred - tp, n_ref - tp

    def share(part, whole):
        return part / whole if whole > 0 else 0.0

    return {
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "precision": share(tp, tp + fp),
        "recall": share(tp, tp + fn),
        "accuracy": share(tp, tp + fp + fn),
        "f1": share(2 * tp, 2 * tp + fp + fn),
        "sq": share(total, tp),
        "mean_true_score": share(total, n_ref),
        "pq": share(total, tp + fp / 2 + fn / 2),
    }


def coco_matches(table, scores, threshold):
    """(P,) whether each instance is matched: instance by instance, reference by reference, as pycocotools loops."""
    matched, taken = np.zeros(len(scores), bool), np.zeros(table.shape[1], bool)
    for p in np.argsort(-np.asarray(scores), kind="stable"):
        best, chosen = threshold, None
        for r in range(table.shape[1]):
            if not taken[r] and table[p, r] >= best:
                best, chosen = table[p, r], r
        if chosen is not None:
            matched[p] = taken[chosen] = True
    return matched


def luna(scans):
    """(false positives per scan, sensitivity), counted as LUNA16's noduleCADEvaluationLUNA16.py counts.

    `scans`: lists of (marks, nodules); a mark is (centre, score), a nodule (centre, radius).
    """
    from sklearn.metrics import roc_curve

    truth, score, missed = [], [], 0
    for marks, nodules in scans:
        left = dict(enumerate(marks))
        for centre, radius in nodules:
            inside = [n for n, (c, _) in enumerate(marks) if np.sum((np.subtract(c, centre)) ** 2) < radius**2]
            for n in inside:
                left.pop(n, None)
            if inside:
                truth.append(1)
                score.append(max(marks[n][1] for n in inside))
            else:
                missed += 1
        truth += [0] * len(left)
        score += [s for _, s in left.values()]
    found = sum(truth)
    if found == len(truth):
        return np.zeros(1), np.full(1, found / max(found + missed, 1))
    if not found:
        return np.array([0, len(truth) / len(scans)]), np.zeros(2)
    fpr, tpr, _ = roc_curve(truth, score)
    return fpr * (len(truth) - found) / len(scans), tpr * found / (found + missed)
