"""Weighted box clustering: boxes that mean one object become one box, their weighted mean.

Where several models, mirrors or tiles see an object, each gives a box for it. Suppression takes the best and forgets the
others; clustering (Retina U-Net, Jaeger et al., 2018, arXiv:1811.08661) averages them, and lowers the score of what only
few of them have seen:

    weight_i = IoU with the cluster's best box x volume_i x given weight_i
    box      = sum(box_i score_i weight_i) / sum(score_i weight_i)
    score    = sum(score_i weight_i) / (sum(weight_i) + missing x mean(weight_i))

`missing` is how many predictions should be there but are not. A cluster is the highest-scoring box that no cluster has
taken, with every free box whose IoU with it is greater than the threshold.

Worked example: (0, 0, 0, 4, 4, 4) with score 0.9 and (0, 0, 0, 4, 4, 3) with score 0.5: IoU 0.75, weights 64 and 36.
The mean box ends at (4 x 57.6 + 3 x 18) / 75.6 = 3.762 along the last axis, its score is 75.6 / 100 = 0.756. If three
predictions were expected, one is missing: 75.6 / (100 + 50) = 0.504.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medseg.boxes.convention import volumes
from medseg.boxes.nms import by_score, check, claims
from medseg.boxes.overlap import iou_pairs


@dataclass(frozen=True, eq=False)
class Clustered:
    """K clusters by falling score.

    Args:
        boxes: (K, 6) weighted means, in the dtype and on the device of the boxes given.
        scores: (K,) damped means.
        members: K tensors (m,) int64 of indices into the boxes given, the best first; together they are a partition.
    """

    boxes: Tensor
    scores: Tensor
    members: tuple[Tensor, ...]

    @property
    def best(self) -> Tensor:
        """(K,) int64 index of each cluster's highest-scoring box, as to look up its class or mask."""
        first = [member[:1] for member in self.members]
        return torch.cat(first) if first else torch.empty(0, dtype=torch.int64, device=self.boxes.device)


def cluster_boxes(
    boxes: Tensor,
    scores: Tensor,
    threshold: float,
    *,
    weights: Tensor | None = None,
    classes: Tensor | None = None,
    expected: float | Tensor | None = None,
    sources: Tensor | None = None,
) -> Clustered:
    """Cluster boxes of several predictions of one volume.

    Args:
        boxes: (N, 6).
        scores: (N,) >= 0.
        threshold: a box joins the cluster whose best box it overlaps with a greater IoU.
        weights: (N,) >= 0, as of how central a box lies in its tile; None: 1.
        classes: (N,) integers; boxes of different classes never join. None: all are of one class.
        expected: how many predictions there should be of an object, a number or (N,) (as where tiles overlap
            unevenly: the mean of a cluster counts); None: as many as there are, nothing is damped.
        sources: (N,) integers, which model or tile a box comes from: several boxes of one source count as one
            prediction when missing ones are counted. None: every box counts.

    Returns:
        The clusters.

    Raises:
        ValueError: shapes do not fit.
    """
    given = {"weights": weights, "classes": classes, "sources": sources}
    if isinstance(expected, Tensor) and expected.ndim:
        given["expected"] = expected
    check(boxes, scores, *(value for value in given.values() if value is not None))
    if len(boxes) == 0:
        return Clustered(boxes, scores, ())
    best, cluster = _assign(boxes, scores, threshold, classes)
    wide, score = boxes.detach().cpu().double(), scores.detach().cpu().double()
    weight = iou_pairs(wide, wide[best[cluster]]) * volumes(wide)
    if weights is not None:
        weight = weight * weights.detach().cpu().double()

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(len(best), *values.shape[1:]).index_add_(0, cluster, values)

    number, strength = total(torch.ones_like(score)), total(score * weight)
    missing = torch.zeros_like(number)
    if expected is not None:
        wanted = torch.as_tensor(expected, dtype=torch.float64, device="cpu").expand(len(score))
        missing = (total(wanted) / number - _voices(cluster, number, sources)).clamp(min=0)
    mixed = (number > 1) & (strength > 0)  # one box alone, or without any weight (empty, score 0), stays bit for bit
    out_boxes = torch.where(mixed[:, None], total(wide * (score * weight)[:, None]) / strength[:, None], wide[best])
    out_scores = torch.where(mixed, strength / total(weight), score[best]) / (1 + missing / number)
    rank = out_scores.argsort(descending=True, stable=True)
    members = _members(cluster, by_score(scores), len(best))
    return Clustered(
        out_boxes[rank].to(boxes.device, boxes.dtype if boxes.is_floating_point() else torch.float32),
        out_scores[rank].to(scores),
        tuple(members[place].to(boxes.device) for place in rank.tolist()),
    )


def _assign(boxes: Tensor, scores: Tensor, threshold: float, classes: Tensor | None) -> tuple[Tensor, Tensor]:
    """The best box of each cluster (K,), and each box's cluster (N,), on the CPU."""
    owner = torch.empty(len(boxes), dtype=torch.int64)
    kind = torch.zeros_like(owner) if classes is None else classes.cpu()
    for value in kind.unique():
        index = (kind == value).nonzero()[:, 0]
        here = index.to(boxes.device)
        order, place = claims(boxes[here], scores[here], threshold)
        owner[index[order]] = index[order[place]]
    best, cluster = owner.unique(return_inverse=True)
    return best, cluster


def _voices(cluster: Tensor, number: Tensor, sources: Tensor | None) -> Tensor:
    """(K,) how many predictions have given a box to each cluster."""
    if sources is None:
        return number
    pairs = torch.stack([cluster, sources.cpu().long()]).unique(dim=1)
    return torch.bincount(pairs[0], minlength=len(number)).double()


def _members(cluster: Tensor, order: Tensor, count: int) -> tuple[Tensor, ...]:
    """The boxes of each cluster by falling score."""
    grouped = order[cluster[order].argsort(stable=True)]
    return grouped.split(torch.bincount(cluster, minlength=count).tolist())
