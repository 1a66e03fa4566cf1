"""Average precision of masks on the validation cases, while a network trains."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced

from medseg.inferers.instances.found import INSIDE
from medseg.inferers.instances.of_network import instances_of
from medseg.metrics.instance import Overlaps, ScoredCase, precision_recall, scored_case

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.inferers.instances.found import MaskCrop
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
    """Class -> how its detections in one image meet the truth; what lies mostly in ignored regions is left out.

    Each detection is judged by its own mask, not by what others leave of it in one map: a false one that they cover
    altogether counts.
    """
    labels = truth.labels.cpu().numpy().astype(np.int64)
    instances = instances_of(found, labels.shape)
    ids, of_truth = truth.ids.cpu().numpy().astype(np.int64), truth.classes.cpu().numpy()
    of_found, scores = instances.classes.cpu().numpy(), instances.scores.cpu().numpy().astype(np.float64)
    sizes = np.bincount(labels.ravel(), minlength=int(ids.max(initial=0)) + 1)
    under = [labels_under(mask, labels) for mask in instances.masks]
    ignored = truth.ignored_ids.cpu().numpy()
    told = np.array([2 * n[~np.isin(values, ignored)].sum() > n.sum() for values, n in under], bool)
    out = {}
    for value in sorted({*of_found.tolist(), *of_truth.tolist()}):
        own, refs = np.flatnonzero((of_found == value) & told), np.sort(ids[of_truth == value])
        overlaps = _overlaps([under[i] for i in own], own + 1, refs, sizes[refs])
        out[value] = scored_case(overlaps, scores[own])
    return out


def labels_under(mask: MaskCrop, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values that a map (D, H, W) has inside a mask, rising, and how many voxels each."""
    here = tuple(slice(a, b) for a, b in zip(mask.low, mask.high, strict=True))
    return np.unique(labels[here][(mask.probability >= INSIDE).cpu().numpy()], return_counts=True)


def _overlaps(
    under: Sequence[tuple[np.ndarray, np.ndarray]], preds: np.ndarray, refs: np.ndarray, sizes: np.ndarray
) -> Overlaps:
    """Of detections, given what lies under each, with the instances `refs` (rising) of given sizes."""
    index, shared = [], []
    for n, (values, counts) in enumerate(under):
        for value, count in zip(values, counts, strict=True):
            at = int(np.searchsorted(refs, value))
            if at < len(refs) and refs[at] == value:
                index.append((n, at))
                shared.append(count)
    pairs = np.array(index, np.int64).reshape(-1, 2)
    voxels = np.array([counts.sum() for _, counts in under], np.int64)
    return Overlaps(preds.astype(np.int64), refs, voxels, sizes, pairs, np.array(shared, np.int64))


def _found_and_true(output: Any) -> tuple[list[Detections], list[Truth]]:
    batches = output if isinstance(output, list) else [output]
    return [f for batch in batches for f in batch["pred"]], [t for batch in batches for t in batch["label"]]
