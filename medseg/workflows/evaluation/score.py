"""One case: a prediction and its reference into rows of the case table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.metrics.centreline import centreline_metrics
from medseg.metrics.contingency import contingency
from medseg.metrics.instance import InstanceMetrics, instance_metrics
from medseg.metrics.longitudinal import components
from medseg.metrics.overlap import overlap
from medseg.metrics.surface import surface_metrics
from medseg.metrics.table import Row
from medseg.workflows.evaluation.confidence import ALL
from medseg.workflows.evaluation.naming import Common, Structure, in_common

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from medseg.metrics.instance import Detection
    from medseg.volume import Volume
    from medseg.workflows.evaluation.confidence import Confidence
    from medseg.workflows.evaluation.protocol import Protocol

MISSING = "pred_missing"


@dataclass(frozen=True, eq=False)
class CaseScore:
    """The numbers of one case.

    Args:
        name: of the case.
        subject: whose scan it is.
        rows: of the case table.
        diagonal_mm: of the reference's image; it stands in for an infinite distance.
        notes: decisions that the readers recorded, values that belong to no structure.
        instances: structure -> its instances, where the protocol asks for them.
        detections: the same where the maps hold instances.
        confidence: of the prediction's own maps of certainty, where it has any.
    """

    name: str
    subject: str
    rows: tuple[Row, ...]
    diagonal_mm: float
    notes: tuple[str, ...] = ()
    instances: Mapping[str, InstanceMetrics] = field(default_factory=dict)
    detections: Mapping[str, Detection] = field(default_factory=dict)
    confidence: Confidence | None = None


def score_case(
    name: str,
    subject: str,
    pred: Volume | None,
    ref: Volume,
    structures: Sequence[Structure],
    protocol: Protocol,
) -> CaseScore:
    """Score one case.

    Args:
        name: of the case.
        subject: whose scan it is.
        pred: the prediction on the reference's grid; None: there is none, which is scored as an empty one.
        ref: the reference.
        structures: what to score.
        protocol: how.
    """
    array = np.zeros_like(ref.array) if pred is None else pred.array
    common = in_common(array, ref.array, structures)
    single = instances_of(common, ref.spacing_mm, protocol)
    rows = []
    for structure, metric, definition, value, status in measured(common, ref.spacing_mm, protocol, single):
        rows.append(Row(name, subject, structure, metric, definition, value, MISSING if pred is None else status))
    return CaseScore(name, subject, tuple(rows), diagonal_mm(ref), _notes(pred, ref, common), single)


def diagonal_mm(volume: Volume) -> float:
    """Of the whole image."""
    ends = volume.grid.to_world(np.array([[0, 0, 0], volume.grid.shape]))
    return float(np.linalg.norm(ends[1] - ends[0]))


def with_confidence(score: CaseScore, found: Confidence) -> CaseScore:
    """The case with the rows of its maps of certainty."""
    rows = [Row(score.name, score.subject, ALL, *row, "ok") for row in found.rows]
    return replace(score, rows=(*score.rows, *rows), confidence=found)


def measured(
    common: Common, spacing_mm: Sequence[float], protocol: Protocol, single: Mapping[str, InstanceMetrics]
) -> Iterator[tuple[str, str, str, float, str]]:
    """(structure, metric, definition, value, status) of every number that the protocol asks for."""
    pred, ref, labels = common.pred, common.ref, common.labels
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    overlaps = overlap(contingency(pred, ref), labels, voxel_ml=voxel_ml)
    surfaces = surface_metrics(
        pred, ref, spacing_mm=spacing_mm, labels=labels, definition=protocol.definition,
        percentiles=protocol.percentiles, tolerances_mm=protocol.tolerances_mm,
    )  # fmt: skip
    tubes = {n: labels[n] for n in protocol.centreline if n in labels}
    centrelines = centreline_metrics(pred, ref, labels=tubes) if tubes else {}
    for name in labels:
        scored, surface = overlaps[name], surfaces[name]
        for metric, value in scored.rows():
            yield name, metric, "", value, scored.status
        for metric, value in surface.rows():
            yield name, metric, surface.definition, value, surface.status
        if name in centrelines:
            for metric, value in centrelines[name].rows():
                yield name, metric, "skeleton", value, centrelines[name].status
        if name in single and protocol.instances is not None:
            for metric, value in single[name].rows():
                yield name, metric, f"{protocol.instances.connectivity}-connected", value, single[name].status


def instances_of(common: Common, spacing_mm: Sequence[float], protocol: Protocol) -> dict[str, InstanceMetrics]:
    """Structure -> its connected components in both maps, matched; empty where the protocol asks for none."""
    rule, out = protocol.instances, {}
    if rule is None:
        return out
    smallest = int(np.ceil(rule.minimum_mm3 / float(np.prod(spacing_mm)) - 1e-9))
    for name in (n for n in common.labels if not rule.structures or n in rule.structures):
        masks = [np.isin(array, common.labels[name]) for array in (common.pred, common.ref)]
        pred, ref = (components(mask, rule.connectivity, smallest) for mask in masks)
        out[name] = instance_metrics(
            pred, ref, spacing_mm=spacing_mm, iou=rule.iou, buckets_mm3=rule.buckets(), definition=protocol.definition
        )
    return out


def _notes(pred: Volume | None, ref: Volume, common: Common) -> tuple[str, ...]:
    out = decided(pred, ref)
    words = {"pred": "prediction", "ref": "reference"}
    out += [f"{words[m]}: value {v} belongs to no structure ({n} voxels)" for m, v, n in common.unknown]
    return tuple(out)


def decided(pred: Volume | None, ref: Volume) -> list[str]:
    """What was decided when the maps were read."""
    out = []
    for which, volume in (("prediction", pred), ("reference", ref)):
        if volume is not None:
            out += [
                f"{which}: {d.code} {d.message}" for d in volume.source.decisions if d.code.startswith(("MS-G", "MS-E"))
            ]
    return out


def filled(scores: Sequence[CaseScore]) -> list[Row]:
    """All rows; a case whose maps never mention a structure that others have agrees on it: both are empty.

    That is how structures come to be where nothing names them: from the values of all cases together.
    """
    shape: dict[tuple[str, str], Row] = {}
    for score in scores:
        for row in score.rows:
            shape.setdefault((row.structure, row.metric), row)
    out = []
    for score in scores:
        known = {row.structure for row in score.rows}
        out += score.rows
        for (structure, metric), row in shape.items():
            if structure not in known and structure != ALL:
                out.append(
                    Row(score.name, score.subject, structure, metric, row.definition, agreed(metric), "both_empty")
                )
    return out


def agreed(metric: str) -> float:
    """The value of a metric where both maps are empty: overlap 1, distances, volumes and counts 0."""
    return 0.0 if metric.startswith(("hd", "assd", "masd", "volume_", "n_", "matched")) else 1.0
