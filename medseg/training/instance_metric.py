"""Average precision of masks on the validation cases, while a network trains."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced

from medseg.inferers.instances.of_network import instances_of
from medseg.inferers.instances.paste import label_map
from medseg.metrics.contingency import contingency
from medseg.metrics.instance import ScoredCase, instance_overlaps, precision_recall, scored_case

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.networks.mask_rcnn import Detections
    from medseg.networks.truth import Truth


class MaskAP(Metric):
    """Mean over the classes of the average precision of masks at one IoU; boxes without masks count as voxels.

    Takes the output of MONAI's evaluator: `pred` (`Detections` for each image) and `label` (`Truth` for each image).

    Args:
        iou: a detection is true from here on.
    """

    def __init__(self, iou: float = 0.5) -> None:
        self.iou = iou
        super().__init__(output_transform=_found_and_true)

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget all cases."""
        self._cases: dict[int, list[ScoredCase]] = defaultdict(list)

    @reinit__is_reduced
    def update(self, output: tuple[Sequence[Detections], Sequence[Truth]]) -> None:
        """Take one batch."""
        for found, truth in zip(*output, strict=True):
            for value, case in scored(found, truth).items():
                self._cases[value].append(case)

    def compute(self) -> float:
        """The mean over the classes that occur; NaN where none does."""
        values = [precision_recall(cases, self.iou).ap for cases in self._cases.values()]
        return float(np.nanmean(values)) if values else float("nan")


def scored(found: Detections, truth: Truth) -> Mapping[int, ScoredCase]:
    """Class -> how its detections in one image meet the truth; what lies mostly in ignored regions is left out."""
    labels = truth.labels.cpu().numpy().astype(np.int64)
    instances = instances_of(found, labels.shape)
    pred = label_map(instances, labels.shape, by="score").ids.astype(np.int64)
    ignored = np.isin(labels, truth.ignored_ids.cpu().numpy())
    voxels = np.bincount(pred.ravel(), minlength=len(instances) + 1)[1:]
    told = np.bincount(pred[~ignored], minlength=len(instances) + 1)[1:] * 2 > voxels
    ids, of_truth = truth.ids.cpu().numpy(), truth.classes.cpu().numpy()
    of_found, scores = instances.classes.cpu().numpy(), instances.scores.cpu().numpy()
    out = {}
    for value in sorted({*of_found.tolist(), *of_truth.tolist()}):
        own = np.flatnonzero((of_found == value) & told) + 1
        both = contingency(_only(pred, own), _only(labels, ids[of_truth == value]))
        out[value] = scored_case(instance_overlaps(both), {int(n): float(scores[n - 1]) for n in own})
    return out


def _only(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return np.where(np.isin(labels, ids), labels, 0)


def _found_and_true(output: Any) -> tuple[list[Detections], list[Truth]]:
    batches = output if isinstance(output, list) else [output]
    return [f for batch in batches for f in batch["pred"]], [t for batch in batches for t in batch["label"]]
