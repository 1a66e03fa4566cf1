"""One case of instance maps: two maps and what is known of their instances into rows of the case table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError
from medseg.metrics.instance import Described, Scene, detection, scene
from medseg.metrics.table import Row
from medseg.workflows.evaluation.instance_files import Known, known_of
from medseg.workflows.evaluation.instance_plan import ALL
from medseg.workflows.evaluation.protocol import Instances
from medseg.workflows.evaluation.score import MISSING, CaseScore, decided, diagonal_mm

if TYPE_CHECKING:
    from medseg.volume import Volume
    from medseg.workflows.evaluation.instance_plan import Plan
    from medseg.workflows.evaluation.pairs import Pair
    from medseg.workflows.evaluation.protocol import Protocol


def score_instances(
    pair: Pair, subject: str, pred: Volume | None, ref: Volume, plan: Plan, protocol: Protocol
) -> CaseScore:
    """Score one case.

    Args:
        pair: its files, beside which what is known of the instances lies.
        subject: whose scan it is.
        pred: (I, J, K) ids on the reference's grid; None: there is none, which is scored as an empty one.
        ref: (I, J, K) ids.
        plan: the classes of all cases.
        protocol: how.

    Raises:
        InputError: MS-E106, MS-E107 and MS-T121 of the JSON beside a map; MS-E107 an instance that it does not have.
    """
    rule = protocol.instances or Instances()
    smallest = int(np.ceil(rule.minimum_mm3 / float(np.prod(ref.spacing_mm)) - 1e-9))
    theirs = known_of(pair.ref)
    mine = Known() if pred is None or pair.pred is None else known_of(pair.pred)
    maps = [
        known.described(ref.array if volume is None else volume.array, one_class=plan.one_class, without=without)
        for known, volume, without in ((mine, pred, ()), (theirs, ref, plan.stuff))
    ]
    if pred is None:
        maps[0] = Described(np.zeros_like(ref.array))
    for known, described in zip((mine, theirs), maps, strict=True):
        _require_known(known, described)
    found = scene(*maps, smallest=smallest)
    rows, detections = [], {}
    for structure in plan.shown:
        whole = structure.name == ALL and len(plan.structures) > 1
        pred_classes, ref_classes = ([v - 1 for v in values] for values in (structure.pred, structure.ref))
        scored = found.together(plan.same) if whole else found.of(pred_classes, ref_classes)
        one = detections[structure.name] = detection(
            found, scored, spacing_mm=ref.spacing_mm, iou=rule.iou, buckets_mm3=rule.buckets(),
            definition=protocol.definition,
        )  # fmt: skip
        status = MISSING if pred is None else one.status
        for metric, value in one.rows():
            rows.append(Row(pair.name, subject, structure.name, metric, _how(metric, protocol), value, status))
    notes = (*decided(pred, ref), *_notes(found, mine, plan))
    return CaseScore(pair.name, subject, tuple(rows), diagonal_mm(ref), notes, detections=detections)


def _how(metric: str, protocol: Protocol) -> str:
    return "box" if metric.startswith("box_") else protocol.definition if metric.startswith("hd") else "mask"


def _require_known(known: Known, described: Described) -> None:
    """Where a JSON speaks of classes or scores it does so of every instance in the map."""
    asked = {"class": described.classes, "score": described.scores}
    if known.file is None or all(table is None for table in asked.values()):
        return
    ids = [i for i in np.unique(described.labels).tolist() if i and i not in known.ignore]
    for what, table in asked.items():
        lost = [] if table is None else [i for i in ids if i not in table]
        if lost:
            raise InputError(
                "MS-E107",
                f"the map has {len(lost)} instances without a {what} here, such as {lost[0]}",
                file=known.file,
                mend=f'give every id of the map a {what}, or list it under "ignore"',
            )


def _notes(found: Scene, mine: Known, plan: Plan) -> list[str]:
    out = []
    if found.left_out:
        out.append(f"prediction: {found.left_out} instances lie mostly in regions to ignore and do not count")
    if mine.hidden:
        out.append(f"prediction: {len(mine.hidden)} instances are listed without a voxel and do not count")
    for words, classes, side in (
        ("prediction", found.pred_classes, "pred"),
        ("reference", found.ref_classes, "ref"),
    ):
        known = [v - 1 for s in plan.structures for v in getattr(s, side)]
        values, counts = np.unique(classes[~np.isin(classes, known)], return_counts=True)
        out += [
            f"{words}: class value {v + 1} belongs to no structure ({n} instances)"
            for v, n in zip(values.tolist(), counts.tolist(), strict=True)
        ]
    return out
