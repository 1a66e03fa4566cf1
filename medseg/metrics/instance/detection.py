"""Every metric of instances that have classes and confidences: by masks and by boxes, of one case and of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.metrics.instance.average_precision import COCO_IOU, MEDICAL_IOU, ScoredCase, precision_recall
from medseg.metrics.instance.metrics import InstanceMetrics, measured, pooled_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from medseg.metrics.instance.described import Scene
    from medseg.metrics.instance.per_instance import Instance
    from medseg.metrics.structures import Status
    from medseg.metrics.surface import Definition

#: Names of the ranges of IoU, as in 'map@0.1:0.5iou'.
RANGES = {"0.1:0.5iou": MEDICAL_IOU, "0.5:0.95iou": COCO_IOU}


@dataclass(frozen=True, eq=False)
class Detection:
    """What was measured of the instances of one structure in one case.

    Args:
        metrics: by masks, with confidences.
        boxes: the same instances by boxes.
        box_only: numbers in the (prediction, reference) of which only the box is true, so that they have no outline.
    """

    metrics: InstanceMetrics
    boxes: ScoredCase
    box_only: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())

    @property
    def status(self) -> Status:
        """Whether there are instances at all, on either side."""
        return self.metrics.status

    @property
    def masks(self) -> ScoredCase:
        """The instances by masks with their confidence."""
        assert self.metrics.scored is not None
        return self.metrics.scored

    @property
    def outlined(self) -> list[Instance]:
        """The matched pairs whose outlines can be compared: of neither is only the box known."""
        pred, ref = self.box_only
        found = (i for i in self.metrics.instances if i.status == "ok")
        return [i for i in found if i.pred_id not in pred and i.ref_id not in ref]

    def rows(self) -> Iterator[tuple[str, float]]:
        """(name of the metric, value) as `InstanceMetrics.rows`, average recall, and average precision by boxes."""
        yield from (row for row in self.metrics.rows() if "_matched" not in row[0])
        yield from _further_rows([self])


def detection(
    found: Scene,
    scored: tuple[ScoredCase, ScoredCase],
    *,
    spacing_mm: Sequence[float],
    iou: Sequence[float] = (0.1, 0.5),
    buckets_mm3: Mapping[str, tuple[float, float]] | None = None,
    definition: Definition | None = "border",
) -> Detection:
    """Measure the instances of one structure, or of all together.

    Args:
        found: of one case.
        scored: of `Scene.of` or `Scene.together`.
        spacing_mm: along the array axes.
        iou: thresholds of a match, each counting as reached; the first one pairs the instances whose outlines are
            compared.
        buckets_mm3: name -> (from, below) in mm3, to count sizes apart; of a box it is the volume of what is drawn.
        definition: of the surfaces of which the HD95 is measured; None: not measured.
    """
    masks, boxes = scored
    metrics = measured(
        masks.overlaps, found.pred.labels, found.ref.labels, np.asarray(spacing_mm, np.float64), scored=masks, iou=iou,
        buckets_mm3=buckets_mm3, definition=definition,
    )  # fmt: skip
    return Detection(metrics, boxes, (found.pred.box_only, found.ref.box_only))


def pooled_detection_rows(cases: Sequence[Detection]) -> Iterator[tuple[str, float]]:
    """(name of the metric, value) over the instances of all cases together, as `pooled_rows`; outlines are means over pairs.

    Args:
        cases: measured with the same thresholds and buckets, at least one.
    """
    yield from pooled_rows([case.metrics for case in cases])
    yield from _further_rows(cases)


def _further_rows(cases: Sequence[Detection]) -> Iterator[tuple[str, float]]:
    """Average recall as COCO has it, but with no limit on detections; average precision by boxes; outlines."""
    masks, boxes = [c.masks for c in cases], [c.boxes for c in cases]
    ious = list(cases[0].metrics.matchings)
    for name, thresholds in RANGES.items():
        yield f"ar@{name}", float(np.mean([_final_recall(masks, t) for t in thresholds]))
    for t in ious:
        yield f"box_ap@{t:g}iou", precision_recall(boxes, t).ap
    pairs = [pair for case in cases for pair in case.outlined]
    if pairs:
        yield f"dice_matched@{ious[0]:g}iou", float(np.mean([i.dice for i in pairs]))
    distances = [i.hd95_mm for i in pairs if i.hd95_mm is not None]
    if distances:
        yield f"hd95_matched_mm@{ious[0]:g}iou", float(np.mean(distances))


def _final_recall(cases: Sequence[ScoredCase], iou: float) -> float:
    """Share of the reference that is found by any instance; no instance on either side 1, on one side 0."""
    curve = precision_recall(cases, iou)
    if curve.status != "ok":
        return float(curve.status == "both_empty")
    return float(curve.recall[-1])
