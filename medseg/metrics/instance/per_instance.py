"""One row an instance: what it was matched to, and how well it was outlined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.jit import kernel
from medseg.metrics.surface import surface_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.metrics.instance.matching import Matching
    from medseg.metrics.structures import Status
    from medseg.metrics.surface import Definition


@dataclass(frozen=True)
class Instance:
    """A matched pair, a missed instance of the reference, or a superfluous one of the prediction.

    Args:
        ref_id: number in the reference; None for a superfluous one.
        pred_id: number in the prediction; None for a missed one.
        status: 'ok' matched, 'pred_empty' missed, 'ref_empty' superfluous.
        iou: of the pair, else 0.
        dice: of the pair, else 0.
        hd95_mm: 95 % Hausdorff distance of the pair, infinite where there is no pair; None if not asked for.
        ref_mm3: volume in the reference, mm3, or 0.
        pred_mm3: volume in the prediction, mm3, or 0.
    """

    ref_id: int | None
    pred_id: int | None
    status: Status
    iou: float
    dice: float
    hd95_mm: float | None
    ref_mm3: float
    pred_mm3: float


def per_instance(
    matching: Matching, *, voxel_mm3: float, hd95_mm: Mapping[int, float] | None = None
) -> tuple[Instance, ...]:
    """Rows of every instance: the reference's by number, then the superfluous ones of the prediction.

    Args:
        matching: of one case.
        voxel_mm3: volume of one voxel, mm3.
        hd95_mm: number in the reference -> HD95 of each matched pair, as `pair_hd95` gives it.
    """
    o = matching.overlaps
    absent = None if hd95_mm is None else math.inf
    pair_of, rows = dict(zip(matching.refs.tolist(), matching.pairs.tolist(), strict=True)), []
    for r, (ref_id, size) in enumerate(zip(o.ref_ids.tolist(), o.ref_sizes.tolist(), strict=True)):
        pair = pair_of.get(r)
        if pair is None:
            rows.append(Instance(ref_id, None, "pred_empty", 0.0, 0.0, absent, size * voxel_mm3, 0.0))
            continue
        p, distance = o.index[pair, 0], None if hd95_mm is None else float(hd95_mm[ref_id])
        iou, dice, pred_mm3 = float(o.iou[pair]), float(o.dice[pair]), float(o.pred_sizes[p]) * voxel_mm3
        rows.append(Instance(ref_id, int(o.pred_ids[p]), "ok", iou, dice, distance, size * voxel_mm3, pred_mm3))
    for p in np.setdiff1d(np.arange(o.n_pred), matching.preds).tolist():
        volume = float(o.pred_sizes[p]) * voxel_mm3
        rows.append(Instance(None, int(o.pred_ids[p]), "ref_empty", 0.0, 0.0, absent, 0.0, volume))
    return tuple(rows)


def pair_hd95(
    pred: np.ndarray, ref: np.ndarray, matching: Matching, *, spacing_mm: Sequence[float], definition: Definition
) -> dict[int, float]:
    """HD95 of every matched pair: the prediction takes the reference's numbers, so that one call measures them all.

    Args:
        pred: (I, J, K) integers.
        ref: likewise.
        matching: of these two.
        spacing_mm: along the array axes.
        definition: of the surface, see `medseg.metrics.surface`.

    Returns:
        Number in the reference -> mm.
    """
    preds, refs = matching.overlaps.pred_ids[matching.preds], matching.overlaps.ref_ids[matching.refs]
    if not len(refs):
        return {}
    renamed, numbers = renumbered(pred, preds, refs), refs.tolist()
    measured = surface_metrics(
        renamed, ref, spacing_mm=spacing_mm, labels=numbers, definition=definition, percentiles=(95,), tolerances_mm=()
    )
    return {number: measured[number].percentiles_mm[95] for number in numbers}


def renumbered(labels: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """A label map with other numbers; what is not named becomes 0.

    Args:
        labels: (I, J, K) integers.
        old: (V,) numbers, once each.
        new: (V,) what they become, > 0.

    Returns:
        (I, J, K) of the smallest unsigned type that holds `new`, in the memory order of `labels`.
    """
    turned = labels.flags.f_contiguous and not labels.flags.c_contiguous
    source = np.ascontiguousarray(labels.T if turned else labels)
    order = np.argsort(old)
    out = np.zeros(source.shape, np.min_scalar_type(int(new.max(initial=0))))
    if len(old):
        _renumber(source.reshape(-1), old[order].astype(np.int64), new[order].astype(np.int64), out.reshape(-1))
    return out.T if turned else out


@kernel
def _renumber(labels, old, new, out):
    last, becomes = labels[0], np.int64(0)
    known = False
    for v in range(len(labels)):
        value = labels[v]
        if not known or value != last:  # look only the first voxel of a run up
            n = np.searchsorted(old, np.int64(value))
            becomes = new[n] if n < len(old) and old[n] == value else np.int64(0)
            last, known = value, True
        out[v] = becomes
