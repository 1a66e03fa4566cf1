"""What a step learns from: predictions of a Mask R-CNN at sampled anchors, boxes and points, beside what is true there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medseg.boxes.convention import clip
from medseg.networks.box_code import decode, encode
from medseg.networks.point_rend import at_points, labels_at, uncertain_points
from medseg.networks.pooler import with_image
from medseg.networks.sampling import anchor_sample, jittered, proposal_sample
from medseg.networks.truth import assign_anchors, assign_proposals, mask_targets, semantic_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.networks.mask_rcnn import MaskRCNN, Pyramid
    from medseg.networks.rpn import Proposed
    from medseg.networks.truth import Truth

# IoU from which a proposal holds an instance, and below which it holds none.
HOLDS, EMPTY = 0.4, 0.2


@dataclass(frozen=True, eq=False)
class Sampled:
    """Predictions of one batch beside what they should be.

    Args:
        objectness, is_object: (S,) logits and 0 or 1 of the sampled anchors.
        anchor_codes, true_anchor_codes: (P, 6) of those that propose something.
        anchor_boxes, true_anchor_boxes: (P, 6) the same as boxes.
        class_logits, true_classes: (R, K + 1) and (R,), 0 background, of the sampled proposals.
        box_codes, true_box_codes, boxes, true_boxes: (Q, 6) of those that hold something.
        mask_logits, true_masks: (Q, d, h, w).
        point_logits, true_points: (Q, N) single points of the masks, N = 0 where they are not refined.
        has_mask: (Q,) bool; False: of `true_masks` only the extent along each axis is known.
        semantic, true_semantic: (B, K + 1 + stuff, D, H, W) and (B, D, H, W), -1 where unknown.
    """

    objectness: Tensor
    is_object: Tensor
    anchor_codes: Tensor
    true_anchor_codes: Tensor
    anchor_boxes: Tensor
    true_anchor_boxes: Tensor
    class_logits: Tensor
    true_classes: Tensor
    box_codes: Tensor
    true_box_codes: Tensor
    boxes: Tensor
    true_boxes: Tensor
    mask_logits: Tensor
    true_masks: Tensor
    point_logits: Tensor
    true_points: Tensor
    has_mask: Tensor
    semantic: Tensor
    true_semantic: Tensor


def sample(
    network: MaskRCNN, pyramid: Pyramid, proposed: Proposed, boxes: Sequence[Tensor], truth: Sequence[Truth]
) -> Sampled:
    """Choose what a step learns from, and say what is true there.

    Args:
        network: whose heads are asked.
        pyramid: of the images.
        proposed: what it says of every anchor.
        boxes: (P_b, 6) that it proposes in each image.
        truth: of each image.

    Raises:
        ValueError: a class that the network does not know.
    """
    _check_classes(network, truth)
    per_place = network.rpn.anchors_per_place
    matched = [assign_anchors(proposed.anchors, proposed.per_level, per_place, t) for t in truth]
    chosen = [anchor_sample(m, logits.detach()) for m, logits in zip(matched, proposed.logits, strict=True)]
    proposing = [c[m[c] >= 0] for m, c in zip(matched, chosen, strict=True)]
    anchor_codes = torch.cat([codes[p] for codes, p in zip(proposed.codes, proposing, strict=True)])
    references = torch.cat([proposed.anchors[p] for p in proposing])
    true_anchor_boxes = torch.cat([t.boxes[m[p]] for t, m, p in zip(truth, matched, proposing, strict=True)])

    images = truth[0].labels.shape
    # The true boxes are proposals too, and others near them: the heads have something to learn from the first step.
    candidates = [torch.cat([b, t.boxes, clip(jittered(t.boxes), images)]) for b, t in zip(boxes, truth, strict=True)]
    owners = [assign_proposals(c, t, positive=HOLDS, negative=EMPTY) for c, t in zip(candidates, truth, strict=True)]
    taken = [proposal_sample(o, network.per_image) for o in owners]
    rois = [c[i] for c, i in zip(candidates, taken, strict=True)]
    owners = [o[i] for o, i in zip(owners, taken, strict=True)]
    class_logits, codes = network.box_head(network.box_features(pyramid, rois), torch.cat(rois))
    true_classes = torch.cat(
        [torch.where(o >= 0, _at(t.classes, o) + 1, 0) for o, t in zip(owners, truth, strict=True)]
    )
    holding = torch.cat(owners) >= 0
    held = [r[o >= 0] for r, o in zip(rois, owners, strict=True)]
    of = [o[o >= 0] for o in owners]
    true_boxes = torch.cat([t.boxes[o] for t, o in zip(truth, of, strict=True)])
    held_all = torch.cat(held)
    mask_logits = network.masks(pyramid, held, true_classes[holding] - 1)
    out = mask_logits.shape[1:]
    points, true_points = _points(network, pyramid, held, of, mask_logits, truth)
    return Sampled(
        objectness=torch.cat([logits[c] for logits, c in zip(proposed.logits, chosen, strict=True)]),
        is_object=torch.cat([(m[c] >= 0).float() for m, c in zip(matched, chosen, strict=True)]),
        anchor_codes=anchor_codes,
        true_anchor_codes=encode(true_anchor_boxes, references),
        anchor_boxes=decode(anchor_codes, references),
        true_anchor_boxes=true_anchor_boxes,
        class_logits=class_logits,
        true_classes=true_classes,
        box_codes=codes[holding],
        true_box_codes=encode(true_boxes, held_all),
        boxes=decode(codes[holding], held_all),
        true_boxes=true_boxes,
        mask_logits=mask_logits,
        true_masks=torch.cat([mask_targets(t, o, r, out) for t, o, r in zip(truth, of, held, strict=True)]),
        point_logits=points,
        true_points=true_points,
        has_mask=torch.cat([t.has_mask[o] for t, o in zip(truth, of, strict=True)]),
        semantic=pyramid.semantic,
        true_semantic=torch.stack([semantic_target(t) for t in truth]),
    )


def _check_classes(network: MaskRCNN, truth: Sequence[Truth]) -> None:
    """Else the semantic target would name a channel that is not there, or another class's."""
    stuff = torch.cat([t.stuff_classes for t in truth]).tolist()
    known = range(network.classes, network.classes + network.stuff)
    if not set(stuff) <= set(known):
        wrong = min(set(stuff) - set(known))
        msg = f"a region without instances has class {wrong}, and the network knows {list(known) or 'none'} as such"
        raise ValueError(msg)


def _points(
    network: MaskRCNN,
    pyramid: Pyramid,
    boxes: Sequence[Tensor],
    of: Sequence[Tensor],
    logits: Tensor,
    truth: Sequence[Truth],
) -> tuple[Tensor, Tensor]:
    """Logits and truth (Q, N) of single points of the masks."""
    if network.point_head is None:
        return logits.new_zeros((len(logits), 0)), logits.new_zeros((len(logits), 0))
    points = uncertain_points(logits, network.point_head.points)
    rois = with_image(boxes)
    shape = truth[0].labels.shape
    features = network.point_features(pyramid, rois[:, 0].long(), rois[:, 1:], points, shape)
    coarse = at_points(logits[:, None], points)[..., 0]
    parts = points.split([len(b) for b in boxes])
    true = [labels_at(t.labels, t.ids[o], b, p) for t, o, b, p in zip(truth, of, boxes, parts, strict=True)]
    return network.point_head(features, coarse), torch.cat(true)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """values[index], 0 where the index is negative."""
    return values[index.clamp(min=0)] if len(values) else torch.zeros_like(index)
