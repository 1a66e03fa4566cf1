"""3D Mask R-CNN (He et al., ICCV 2017) on the U-Net's encoder, with a semantic head at full resolution.

    image -> encoder levels 0..L -> FPN (levels 1..L) -> RPN -> proposals -+-> RoIAlign -> BoxHead  -> class, finer box
                 |                     |                                   |
                 +-> SemanticHead <----+  fine features, class of voxels   +-> RoIAlign -> MaskHead -> mask in the box
                                                                                 (pyramid and fine features)

In training it returns predictions beside what they should be (`Sampled`), which `losses.DetectionLoss` compares; else
what it found (`Detections`). Boxes are in voxels of the image, see medseg/boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from medseg.boxes.convention import clip
from medseg.boxes.nms import nms_by_class
from medseg.networks.box_code import decode
from medseg.networks.detections import Detections
from medseg.networks.encoder import Encoder, Triple, triple
from medseg.networks.fpn import FPN
from medseg.networks.heads import BoxHead, MaskHead, SemanticHead, stuff_of
from medseg.networks.outline import outline
from medseg.networks.point_rend import PointHead, at_places, refine
from medseg.networks.pooler import pool, with_image
from medseg.networks.roi_align import roi_align_3d
from medseg.networks.rpn import RPN, proposals
from medseg.networks.sampled import Sampled, sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.networks.truth import Truth

# For a result: masks computed at a time.
MASKS_AT_A_TIME = 32
# A box smaller than this along an axis, in voxels, has nothing in it.
SMALLEST_BOX = 0.5
# In validation the best detections of an image get masks: 100 as in COCO, or so many for each object there. An untrained
# network finds thousands of equal score, and further down than this precision is below 1/4.
VALIDATED, VALIDATED_PER_OBJECT = 100, 4
# Where there is stuff: classes in one byte a voxel.
MOST_CLASSES = 255


@dataclass(frozen=True, eq=False)
class Pyramid:
    """What all heads read.

    Args:
        levels: (B, F, D_l, H_l, W_l) of the feature pyramid, finest first.
        fine: (B, G, D_0, H_0, W_0) features at the encoder's finest level.
        semantic: (B, K + 1 + stuff, D, H, W) logits.
    """

    levels: list[Tensor]
    fine: Tensor
    semantic: Tensor


class MaskRCNN(nn.Module):
    """Detects, classifies and outlines instances.

    Args:
        in_channels: channels of the image.
        classes: K without background, of instances.
        anchors: sizes in voxels of the image for each level of the pyramid, finest first: (A, 3) a level, or none where
            a level only gives features.
        features, strides, kernel_sizes: of the encoder, see `Encoder`.
        encoder: another one instead: returns features finest first, and has `features` and `strides` (`MonaiEncoder`).
        channels: of the pyramid.
        fine_channels: of the features at full resolution.
        first_level: encoder level at which the pyramid begins.
        width: of the box head.
        mask_width: of the mask head.
        mask_size: of the features of a mask; the mask is `mask_scale` times as large.
        mask_scale: (2, 2, 2), or (1, 2, 2) where slices are thick.
        mask_per_class: one mask for each class instead of one for all.
        refined: ask single points of a mask again where it is unsure, see point_rend.py.
        dropout: probability in the heads.
        per_image: proposals of an image that the heads are trained on.
        min_score: detections below it are left out.
        box_nms: IoU from which the lesser of two boxes of a class goes. Loose: true neighbours overlap as boxes; what
            is double is found by masks (`inferers.InstanceInferer`).
        proposals: how many of an image the heads are trained on at most; for a result there is no limit.
        stuff: further classes, behind the K, that the semantic head alone knows: they have no instances. K + stuff is
            at most 255 then.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        anchors: Sequence[Sequence[Sequence[float]]],
        features: Sequence[int] = (16, 32, 64, 96),
        strides: Sequence[Triple] | None = None,
        kernel_sizes: Sequence[Triple] | None = None,
        *,
        encoder: nn.Module | None = None,
        channels: int = 48,
        fine_channels: int = 16,
        first_level: int = 1,
        width: int = 128,
        mask_width: int = 32,
        mask_size: Triple = 14,
        mask_scale: Triple = 2,
        mask_per_class: bool = False,
        refined: bool = False,
        dropout: float = 0.1,
        per_image: int = 48,
        min_score: float = 0.05,
        box_nms: float = 0.7,
        proposals: int = 200,
        stuff: int = 0,
    ) -> None:
        super().__init__()
        if stuff < 0 or (stuff and classes + stuff > MOST_CLASSES):
            msg = f"{classes} classes and {stuff} without instances; together at most {MOST_CLASSES}"
            raise ValueError(msg)
        self.encoder = encoder or Encoder(in_channels, features, strides, kernel_sizes)
        widths = list(cast("Sequence[int]", self.encoder.features))
        all_strides = cumulative(cast("Sequence[Triple]", self.encoder.strides))
        self.first_level, self.fine_stride = first_level, all_strides[0]
        self.strides = all_strides[first_level : first_level + len(anchors)]
        if len(self.strides) != len(anchors):
            msg = f"anchors for {len(anchors)} levels, and the encoder has {len(widths)} from level {first_level} on"
            raise ValueError(msg)
        self.fpn = FPN(widths[first_level:], channels, len(anchors))
        self.rpn = RPN(channels, self.strides, anchors)
        self.semantic_head = SemanticHead(widths[0], channels, classes + stuff, fine_channels)
        self.box_head = BoxHead(channels, classes, width, dropout=dropout)
        self.mask_size, self.mask_scale = triple(mask_size), triple(mask_scale)
        masks = classes if mask_per_class else 1
        self.mask_head = MaskHead(channels + fine_channels, masks, mask_width, scale=self.mask_scale, dropout=dropout)
        self.point_head = PointHead(channels + fine_channels) if refined else None
        self.classes, self.stuff, self.mask_per_class = classes, stuff, mask_per_class
        self.per_image, self.min_score, self.box_nms, self.most_proposals = per_image, min_score, box_nms, proposals

    @property
    def divisor(self) -> tuple[int, int, int]:
        """A tile's size along each axis must be a multiple of this."""
        return cumulative(cast("Sequence[Triple]", self.encoder.strides))[-1]

    def forward(self, images: Tensor, truth: Sequence[Truth] | None = None) -> Sampled | list[Detections]:
        """Images (B, C, D, H, W), and what is true in each of them.

        Args:
            images: to look at.
            truth: what to learn; in evaluation mode only how many objects there are matters: it says that this is a
                validation, which looks at the best detections (`VALIDATED`). None: all are returned.

        Returns:
            `Sampled` in training mode, else `Detections` for each image.

        Raises:
            ValueError: in training mode without truth, or with images that `divisor` does not divide (else they are
                filled up behind with their edge values).
        """
        if self.training and any(n % d for n, d in zip(images.shape[2:], self.divisor, strict=True)):
            msg = f"images of {tuple(images.shape[2:])} voxels; in training mode sizes are multiples of {self.divisor}"
            raise ValueError(msg)
        pyramid = self.pyramid(filled_up(images, self.divisor))
        proposed = self.rpn(pyramid.levels)
        shape = images.shape[2:]
        found = proposals(proposed, shape, after=self.most_proposals if self.training else None)
        if self.training:
            if truth is None:
                msg = "in training mode the network needs what is true of each image (medseg.networks.truth)"
                raise ValueError(msg)
            return sample(self, pyramid, proposed, [boxes for boxes, _ in found], truth)
        return self.detect(
            pyramid, [boxes for boxes, _ in found], shape, [most_validated(t) for t in truth] if truth else None
        )

    def pyramid(self, images: Tensor) -> Pyramid:
        """What lies before the proposals."""
        features = self.encoder(images)
        levels = self.fpn(features[self.first_level :])
        fine, semantic = self.semantic_head(features[0], levels[0])
        if semantic.shape[2:] != images.shape[2:]:  # an encoder that begins at a coarser grid
            semantic = interpolate(semantic, size=images.shape[2:], mode="trilinear", align_corners=False)
        return Pyramid(levels, fine, semantic.float())

    def detect(
        self, pyramid: Pyramid, boxes: Sequence[Tensor], shape: Sequence[int], most: Sequence[int] | None = None
    ) -> list[Detections]:
        """Class, finer box and mask of proposals: (P_b, 6) for each image, and how many to return of each at most."""
        logits, codes = self.box_head(self.box_features(pyramid, boxes), torch.cat(list(boxes)))
        counts = [len(b) for b in boxes]
        chosen = [
            self._chosen(logit.softmax(1), clip(decode(code, box), shape))
            for logit, code, box in zip(logits.split(counts), codes.split(counts), boxes, strict=True)
        ]
        if most:
            chosen = [(b[:n], s[:n], c[:n]) for (b, s, c), n in zip(chosen, most, strict=True)]
        stuff = self._stuff(pyramid, shape)
        return [self._outlined(pyramid, image, *c, shape, stuff[image]) for image, c in enumerate(chosen)]

    def box_features(self, pyramid: Pyramid, boxes: Sequence[Tensor]) -> Tensor:
        """(R, F, 7, 7, 7) of the boxes of all images."""
        return pool(pyramid.levels, self.strides, boxes, 7, target=7)

    def masks(self, pyramid: Pyramid, boxes: Sequence[Tensor], classes: Tensor) -> Tensor:
        """Logits (R, d, h, w) of the masks in boxes of given classes (R,)."""
        size = self.mask_size
        coarse = pool(pyramid.levels, self.strides, boxes, size, target=prod(size) ** (1 / 3))
        scale = tuple(1 / s for s in self.fine_stride)
        fine = roi_align_3d(pyramid.fine, with_image(boxes), size, scale)
        logits = self.mask_head(torch.cat([coarse, fine.to(coarse.dtype)], 1))
        if not self.mask_per_class:
            return logits[:, 0]
        return logits[torch.arange(len(logits), device=logits.device), classes]

    def _outlined(
        self,
        pyramid: Pyramid,
        image: int,
        boxes: Tensor,
        scores: Tensor,
        classes: Tensor,
        shape: Sequence[int],
        stuff: Tensor | None,
    ) -> Detections:
        """One image's boxes by falling score with their masks, refined where the network does that."""
        here = slice(image, image + 1)
        one = Pyramid([level[here] for level in pyramid.levels], pyramid.fine[here], pyramid.semantic[here])

        def masks(which: Tensor) -> Tensor:  # some at a time, for the memory
            return torch.cat([self.masks(one, [boxes[w]], classes[w]) for w in which.split(MASKS_AT_A_TIME)])

        kept, logits = outline(boxes, scores, masks)
        boxes, scores, classes = boxes[kept], scores[kept], classes[kept]
        if self.point_head is None:
            return Detections(boxes, scores, classes, logits.sigmoid(), stuff)
        one = Pyramid([one.levels[0].float()], one.fine.float(), one.semantic)  # once, not at every question
        finer = [
            refine(mask, box, partial(self._asked, one, box, shape)).sigmoid()
            for mask, box in zip(logits, boxes, strict=True)
        ]
        return Detections(boxes, scores, classes, finer, stuff)

    def _stuff(self, pyramid: Pyramid, shape: Sequence[int]) -> Sequence[Tensor | None]:
        """(D, H, W) of each image; None where there is no class for it."""
        d, h, w = shape
        logits = pyramid.semantic[..., :d, :h, :w]
        return stuff_of(logits, self.classes).unbind() if self.stuff else [None] * len(logits)

    def _asked(self, pyramid: Pyramid, box: Tensor, shape: Sequence[int], points: Tensor, coarse: Tensor) -> Tensor:
        first = torch.zeros(1, dtype=torch.long, device=box.device)
        features = self.point_features(pyramid, first, box[None], points[None], shape)
        return cast("PointHead", self.point_head)(features, coarse[None])[0]

    def point_features(
        self, pyramid: Pyramid, images: Tensor, boxes: Tensor, points: Tensor, shape: Sequence[int]
    ) -> Tensor:
        """(R, N, channels + fine_channels) at points of boxes: the finest features and the finest pyramid level."""
        filled = [-(-n // d) * d for n, d in zip(shape, self.divisor, strict=True)]
        both = [at_places(f, images, boxes, points, tuple(filled)) for f in (pyramid.levels[0], pyramid.fine)]
        return torch.cat(both, -1)

    def _chosen(self, probabilities: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and classes that remain of one image's proposals (P, K + 1) and (P, 6)."""
        which, classes = (probabilities[:, 1:] >= self.min_score).nonzero().unbind(1)
        scores, found = probabilities[which, classes + 1], boxes[which]
        whole = ((found[:, 3:] - found[:, :3]) >= SMALLEST_BOX).all(1)
        scores, found, classes = scores[whole], found[whole], classes[whole]
        keep = nms_by_class(found, scores, classes, self.box_nms)
        return found[keep], scores[keep], classes[keep]


def most_validated(truth: Truth) -> int:
    """How many detections of an image a validation looks at."""
    return max(VALIDATED, VALIDATED_PER_OBJECT * (len(truth.boxes) + len(truth.ignored_ids)))


def filled_up(images: Tensor, divisor: Sequence[int]) -> Tensor:
    """(B, C, D, H, W) with its edge values repeated behind, to multiples of a divisor."""
    behind = [-n % d for n, d in zip(images.shape[2:], divisor, strict=True)]
    return pad(images, (0, behind[2], 0, behind[1], 0, behind[0]), mode="replicate") if any(behind) else images


def cumulative(strides: Sequence[Triple]) -> list[tuple[int, int, int]]:
    """Strides into each level -> voxels of the image in a cell of each level."""
    out: list[tuple[int, int, int]] = []
    d = h = w = 1
    for stride in strides:
        by = triple(stride)
        d, h, w = d * by[0], h * by[1], w * by[2]
        out.append((d, h, w))
    return out
