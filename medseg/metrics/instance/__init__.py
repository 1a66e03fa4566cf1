"""Scores of instances: how many were found, at what confidence, and how well they were outlined.

Two integer maps meet in one contingency table (`medseg.metrics.contingency`). `instance_overlaps` reads the touching
pairs out of it, `match_optimal` and `match_greedy` say which is which, and all else counts: `MatchCounts` (precision,
recall, F1, PQ = SQ x RQ), `panoptic_quality` (classes, stuff), `precision_recall` (AP), `froc_curve` (FROC, CPM),
`by_size` and `per_instance`. `instance_metrics` does it all for one case, `pooled_rows` for many.

Where instances have classes, or are known by their box alone, or regions are to be ignored, a `Described` map says so:
`scene` settles what counts, `detection` measures one case, `pooled_detection_rows` many, `pooled_statistic` is for
their bootstrap intervals.
"""

from medseg.metrics.instance.average_precision import (
    COCO_IOU,
    MEDICAL_IOU,
    PrecisionRecall,
    ScoredCase,
    mean_average_precision,
    precision_recall,
    scored_case,
)
from medseg.metrics.instance.buckets import by_size
from medseg.metrics.instance.centres import centroids_mm, sphere_radius_mm
from medseg.metrics.instance.described import Described, Scene, scene
from medseg.metrics.instance.detection import Detection, detection, pooled_detection_rows
from medseg.metrics.instance.froc import RATES, Froc, Hits, centre_hits, froc_curve, iou_hits
from medseg.metrics.instance.matching import MatchCounts, Matching, match_greedy, match_optimal
from medseg.metrics.instance.metrics import InstanceMetrics, instance_metrics, pooled_rows
from medseg.metrics.instance.overlaps import Overlaps, box_overlaps, instance_overlaps
from medseg.metrics.instance.panoptic import PanopticQuality, panoptic_quality
from medseg.metrics.instance.per_instance import Instance, pair_hd95, per_instance
from medseg.metrics.instance.resampled import pooled_statistic

__all__ = [
    "COCO_IOU",
    "MEDICAL_IOU",
    "RATES",
    "Described",
    "Detection",
    "Froc",
    "Hits",
    "Instance",
    "InstanceMetrics",
    "MatchCounts",
    "Matching",
    "Overlaps",
    "PanopticQuality",
    "PrecisionRecall",
    "Scene",
    "ScoredCase",
    "box_overlaps",
    "by_size",
    "centre_hits",
    "centroids_mm",
    "detection",
    "froc_curve",
    "instance_metrics",
    "instance_overlaps",
    "iou_hits",
    "match_greedy",
    "match_optimal",
    "mean_average_precision",
    "pair_hd95",
    "panoptic_quality",
    "per_instance",
    "pooled_detection_rows",
    "pooled_rows",
    "pooled_statistic",
    "precision_recall",
    "scene",
    "scored_case",
    "sphere_radius_mm",
]
