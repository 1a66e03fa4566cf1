"""Every instance metric of one case, and of many cases pooled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.metrics.contingency import contingency
from medseg.metrics.instance.average_precision import (
    COCO_IOU,
    MEDICAL_IOU,
    ScoredCase,
    mean_average_precision,
    precision_recall,
    scored_case,
)
from medseg.metrics.instance.buckets import by_size
from medseg.metrics.instance.centres import centroids_mm, sphere_radius_mm
from medseg.metrics.instance.froc import RATES, Hits, centre_hits, froc_curve, iou_hits
from medseg.metrics.instance.matching import MatchCounts, Matching, match_optimal
from medseg.metrics.instance.overlaps import Overlaps, instance_overlaps
from medseg.metrics.instance.panoptic import IOU
from medseg.metrics.instance.per_instance import Instance, pair_hd95, per_instance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from medseg.metrics.structures import Status
    from medseg.metrics.surface import Definition


@dataclass(frozen=True, eq=False)
class InstanceMetrics:
    """What was measured of the instances of one case.

    Args:
        overlaps: the instances, their sizes and the pairs that touch.
        definition: of the surfaces whose HD95 was measured; None: it was not.
        panoptic: matched with IoU > 0.5.
        matchings: IoU threshold -> the optimal matching with IoU >= threshold.
        instances: a row an instance, matched at the first threshold.
        buckets: (IoU threshold, bucket) -> counts.
        scored: the instances with their confidence, where it was given.
        centres: which instance lies within which reference's radius, where confidence was given.
    """

    overlaps: Overlaps
    definition: Definition | None
    panoptic: MatchCounts
    matchings: Mapping[float, Matching]
    instances: tuple[Instance, ...]
    buckets: Mapping[tuple[float, str], MatchCounts]
    scored: ScoredCase | None
    centres: Hits | None

    @property
    def status(self) -> Status:
        """Whether there are instances at all, on either side."""
        return self.overlaps.status

    def rows(self) -> Iterator[tuple[str, float]]:
        """(name of the metric, value), never nan.

        Both maps without instances: every score 1. What cannot be said is left out: average precision without
        confidences, a size bucket without instances on either side, outlines where no pair matched.
        """
        counts = {iou: matching.counts for iou, matching in self.matchings.items()}
        yield from _count_rows(self.panoptic, counts, self.buckets)
        if self.scored is not None:
            yield from _ap_rows([self.scored], counts)
        yield from self._outline_rows()

    def _outline_rows(self) -> Iterator[tuple[str, float]]:
        pairs, iou = [i for i in self.instances if i.status == "ok"], next(iter(self.matchings))
        if pairs:
            yield f"dice_matched@{iou:g}iou", float(np.mean([i.dice for i in pairs]))
        distances = [i.hd95_mm for i in pairs if i.hd95_mm is not None]
        if distances:
            yield f"hd95_matched_mm@{iou:g}iou", float(np.mean(distances))


def instance_metrics(
    pred: np.ndarray,
    ref: np.ndarray,
    *,
    spacing_mm: Sequence[float],
    scores: Mapping[int, float] | None = None,
    iou: Sequence[float] = (0.5,),
    buckets_mm3: Mapping[str, tuple[float, float]] | None = None,
    definition: Definition | None = "border",
) -> InstanceMetrics:
    """Measure two maps of instances, each a number of its own and 0 the background.

    Args:
        pred: (I, J, K) integers.
        ref: the same shape.
        spacing_mm: along the array axes.
        scores: number in the prediction -> confidence, for every instance; without it there is no average precision
            and no FROC.
        iou: thresholds of the optimal matching, each counting as reached (>=); the first one pairs the instances
            whose outlines are compared.
        buckets_mm3: name -> (from, below) in mm3, to count sizes apart.
        definition: of the surfaces of which the HD95 is measured, see `medseg.metrics.surface`; None: not measured.

    Raises:
        ValueError: shapes differ, negative numbers, scores missing, no threshold, or thresholds outside [0, 1].
        TypeError: a map does not hold integers.
    """
    spacing = np.asarray(spacing_mm, np.float64)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all() or not len(iou):
        msg = f"three spacings above 0 mm and one IoU threshold or more are needed, got {spacing_mm} and iou={iou}"
        raise ValueError(msg)
    overlaps = instance_overlaps(contingency(pred, ref))
    return measured(
        overlaps, pred, ref, spacing, scored=None if scores is None else scored_case(overlaps, scores), iou=iou,
        buckets_mm3=buckets_mm3, definition=definition,
    )  # fmt: skip


def measured(
    overlaps: Overlaps,
    pred: np.ndarray,
    ref: np.ndarray,
    spacing_mm: np.ndarray,
    *,
    scored: ScoredCase | None,
    iou: Sequence[float],
    buckets_mm3: Mapping[str, tuple[float, float]] | None,
    definition: Definition | None,
) -> InstanceMetrics:
    """As `instance_metrics`, where it is known already which instances count and which of them may be a pair.

    Args:
        overlaps: of instances of the two maps.
        pred: (I, J, K) integers.
        ref: the same shape.
        spacing_mm: (3,) along the array axes.
        scored: the same `overlaps` with confidences.
        iou: as there, as are the others.
        buckets_mm3: size classes.
        definition: of the surfaces.
    """
    voxel_mm3 = float(spacing_mm.prod())
    matchings = {float(t): match_optimal(overlaps, t, strict=False) for t in iou}
    first = next(iter(matchings.values()))
    hd95 = definition and pair_hd95(pred, ref, first, spacing_mm=spacing_mm.tolist(), definition=definition)
    return InstanceMetrics(
        overlaps,
        definition,
        match_optimal(overlaps, IOU, strict=True).counts,
        matchings,
        per_instance(first, voxel_mm3=voxel_mm3, hd95_mm=hd95),
        {
            (t, name): counts
            for t, matching in matchings.items()
            for name, counts in by_size(matching, buckets_mm3 or {}, voxel_mm3=voxel_mm3).items()
        },
        scored,
        None if scored is None else _centre_hits(pred, ref, scored, spacing_mm),
    )


def pooled_rows(cases: Sequence[InstanceMetrics]) -> Iterator[tuple[str, float]]:
    """(name of the metric, value) over the instances of all cases together, as detection is reported.

    Counts are summed before scores are taken (Kirillov et al., 2019); average precision and FROC order the instances
    of all cases by their confidence. Without confidences those are left out; where no reference has an instance FROC is.

    Args:
        cases: measured with the same thresholds and buckets.

    Raises:
        ValueError: no case, or cases with other thresholds or buckets, or some of them without confidences.
    """
    kinds = {(tuple(c.matchings), tuple(c.buckets), c.scored is None) for c in cases}
    if len(kinds) != 1:
        msg = f"one case or more are pooled, with the same thresholds and buckets and all with scores or none, got {kinds}"
        raise ValueError(msg)
    none = MatchCounts()
    counts = {t: sum((c.matchings[t].counts for c in cases), none) for t in cases[0].matchings}
    buckets = {key: sum((c.buckets[key] for c in cases), none) for key in cases[0].buckets}
    yield from _count_rows(sum((c.panoptic for c in cases), none), counts, buckets)
    scored = [c.scored for c in cases if c.scored is not None]
    if not scored:
        return
    yield from _ap_rows(scored, counts)
    for t in counts:
        yield from _froc_rows(f"{t:g}iou", [iou_hits(case, t) for case in scored])
    yield from _froc_rows("centre", [c.centres for c in cases if c.centres is not None])


def _centre_hits(pred: np.ndarray, ref: np.ndarray, scored: ScoredCase, spacing_mm: np.ndarray) -> Hits:
    o = scored.overlaps
    return centre_hits(
        scored.scores,
        centroids_mm(pred, o.pred_ids, spacing_mm),
        centroids_mm(ref, o.ref_ids, spacing_mm),
        sphere_radius_mm(o.ref_sizes * spacing_mm.prod()),
    )


def _count_rows(
    panoptic: MatchCounts, counts: Mapping[float, MatchCounts], buckets: Mapping[tuple[float, str], MatchCounts]
) -> Iterator[tuple[str, float]]:
    yield from (("n_pred", float(panoptic.tp + panoptic.fp)), ("n_ref", float(panoptic.tp + panoptic.fn)))
    yield from (("pq", panoptic.pq), ("sq", panoptic.sq), ("rq", panoptic.rq))
    named = [(f"{t:g}iou", c) for t, c in counts.items()]
    named += [(f"{t:g}iou[{bucket}]", c) for (t, bucket), c in buckets.items() if c.status != "both_empty"]
    for name, c in named:
        yield f"matched@{name}", float(c.tp)
        yield from ((f"n_superfluous@{name}", float(c.fp)), (f"n_missed@{name}", float(c.fn)))
        yield from ((f"precision@{name}", c.precision), (f"recall@{name}", c.recall), (f"f1@{name}", c.f1))


def _ap_rows(cases: Sequence[ScoredCase], ious: Mapping[float, MatchCounts]) -> Iterator[tuple[str, float]]:
    for t in ious:
        yield f"ap@{t:g}iou", precision_recall(cases, t).ap
    yield "map@0.1:0.5iou", mean_average_precision(cases, MEDICAL_IOU)
    yield "map@0.5:0.95iou", mean_average_precision(cases, COCO_IOU)


def _froc_rows(name: str, hits: Sequence[Hits]) -> Iterator[tuple[str, float]]:
    curve = froc_curve(hits)
    if curve.cpm is not None:
        yield f"cpm@{name}", curve.cpm
        yield from ((f"sensitivity_{rate:g}fp@{name}", float(curve.at(rate) or 0.0)) for rate in RATES)
