"""Average precision and panoptic quality of masks on the validation cases, while a network trains."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import ignite.distributed as idist
import numpy as np
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from torch.distributed import all_gather_object

from medseg.inferers.instances.found import INSIDE
from medseg.inferers.instances.of_network import instances_of
from medseg.metrics.instance import (
    MatchCounts,
    Overlaps,
    ScoredCase,
    match_optimal,
    precision_recall,
    scored_case,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.inferers.instances.found import MaskCrop
    from medseg.networks.detections import Detections
    from medseg.networks.truth import Truth


class _OfInstances(Metric):
    """Takes the output of MONAI's evaluator: `pred` (`Detections` for each image) and `label` (`Truth` for each image).

    With several processes the cases of all count, in each of them.
    """

    def __init__(self) -> None:
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
        values = [self.of_class(cases) for cases in _of_all_processes(self._cases).values()]
        return float(np.nanmean(values)) if values else float("nan")

    @abstractmethod
    def of_class(self, cases: Sequence[ScoredCase]) -> float:
        """The metric of one class."""


class MaskAP(_OfInstances):
    """Mean over the classes of the average precision of masks at one IoU; boxes without masks count as voxels.

    Args:
        iou: a detection is true from here on.
    """

    def __init__(self, iou: float = 0.5) -> None:
        self.iou = iou
        super().__init__()

    def of_class(self, cases: Sequence[ScoredCase]) -> float:
        """Its average precision."""
        return precision_recall(cases, self.iou).ap


class MaskPQ(_OfInstances):
    """Mean over the classes of the panoptic quality (Kirillov et al., CVPR 2019); boxes without masks count as voxels.

    Args:
        min_score: what is less sure does not count as found; that of the bundle's inferer.
    """

    def __init__(self, min_score: float = 0.5) -> None:
        self.min_score = min_score
        super().__init__()

    def of_class(self, cases: Sequence[ScoredCase]) -> float:
        """Its panoptic quality, cases pooled."""
        return sum((self._counts(case) for case in cases), MatchCounts()).pq

    def _counts(self, case: ScoredCase) -> MatchCounts:
        kept = case.scores >= self.min_score
        overlaps = case.overlaps.only(kept, np.ones(case.overlaps.n_ref, bool))
        return match_optimal(overlaps, 0.5, strict=True).counts


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


def _of_all_processes(cases: Mapping[int, list[ScoredCase]]) -> Mapping[int, list[ScoredCase]]:
    """Those of this process, and of the others in their order."""
    if idist.get_world_size() == 1:
        return cases
    parts: list[Any] = [None] * idist.get_world_size()
    all_gather_object(parts, dict(cases))
    return {value: [case for part in parts for case in part.get(value, [])] for value in sorted(set().union(*parts))}


def _found_and_true(output: Any) -> tuple[list[Detections], list[Truth]]:
    batches = output if isinstance(output, list) else [output]
    return [f for batch in batches for f in batch["pred"]], [t for batch in batches for t in batch["label"]]
