"""Region proposal network: where something may be, at every voxel of the pyramid (Ren et al., NeurIPS 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from medseg.boxes.anchors import anchors_of_level
from medseg.boxes.convention import clip
from medseg.boxes.nms import nms
from medseg.networks.box_code import decode

if TYPE_CHECKING:
    from collections.abc import Sequence

# Objectness at the beginning: mostly background, also among the anchors that are sampled (Lin et al., ICCV 2017).
PRIOR = 0.1


@dataclass(frozen=True, eq=False)
class Proposed:
    """What the network says of every anchor.

    Args:
        anchors: (N, 6) of all levels, finest first.
        per_level: how many of them each level has.
        logits: (B, N) objectness.
        codes: (B, N, 6) boxes seen from the anchors.
    """

    anchors: Tensor
    per_level: tuple[int, ...]
    logits: Tensor
    codes: Tensor


class RPN(nn.Module):
    """One head for all levels of the pyramid that propose something.

    Args:
        channels: of the pyramid.
        strides: of each level, voxels of the image.
        sizes: anchor sizes of each level, voxels of the image: (A, 3) a level, as many on each, or none.
    """

    def __init__(
        self, channels: int, strides: Sequence[tuple[int, int, int]], sizes: Sequence[Sequence[Sequence[float]]]
    ) -> None:
        super().__init__()
        counts = {len(s) for s in sizes if len(s)}
        if len(sizes) != len(strides) or len(counts) != 1:
            msg = (
                f"{len(strides)} levels need as many lists of equally many anchor sizes, got {[len(s) for s in sizes]}"
            )
            raise ValueError(msg)
        self.levels = [level for level, some in enumerate(sizes) if len(some)]
        self.strides, self.sizes = [tuple(strides[i]) for i in self.levels], [sizes[i] for i in self.levels]
        self.anchors_per_place = counts.pop()
        self.shared = nn.Sequential(nn.Conv3d(channels, channels, 3, padding=1), nn.LeakyReLU(0.01))
        self.objectness = nn.Conv3d(channels, self.anchors_per_place, 1)
        self.codes = nn.Conv3d(channels, 6 * self.anchors_per_place, 1)
        for layer, bias in ((self.objectness, -log((1 - PRIOR) / PRIOR)), (self.codes, 0.0)):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(cast("Tensor", layer.bias), bias)

    def forward(self, levels: Sequence[Tensor]) -> Proposed:
        """Pyramid levels (B, channels, D_l, H_l, W_l), finest first -> objectness and codes of all anchors."""
        logits, codes, anchors = [], [], []
        for level, stride, sizes in zip([levels[i] for i in self.levels], self.strides, self.sizes, strict=True):
            shared = self.shared(level)
            logits.append(self.objectness(shared).movedim(1, -1).flatten(1))
            codes.append(self.codes(shared).movedim(1, -1).unflatten(-1, (-1, 6)).flatten(1, 4))
            wanted = torch.as_tensor(sizes, dtype=torch.float32, device=level.device)
            anchors.append(anchors_of_level(level.shape[2:], stride, wanted))
        per_level = tuple(len(a) for a in anchors)
        return Proposed(torch.cat(anchors), per_level, torch.cat(logits, 1).float(), torch.cat(codes, 1).float())


@torch.no_grad()
def proposals(
    proposed: Proposed, shape: Sequence[int], *, before: int = 2000, after: int | None = None, threshold: float = 0.7
) -> list[tuple[Tensor, Tensor]]:
    """The most promising boxes of each image.

    Args:
        proposed: of the network.
        shape: (D, H, W) of the image; boxes are clipped to it.
        before: boxes of each level that take part in the suppression.
        after: boxes that remain at most; None: all.
        threshold: IoU from which the lesser one goes.

    Returns:
        For each image (P, 6) boxes and (P,) scores in [0, 1], best first.
    """
    out = []
    for logits, codes in zip(proposed.logits, proposed.codes, strict=True):
        boxes, scores = [], []
        start = 0
        for count in proposed.per_level:
            here = slice(start, start + count)
            best, which = logits[here].topk(min(before, count))
            boxes.append(clip(decode(codes[here][which], proposed.anchors[here][which]), shape))
            scores.append(best.sigmoid())
            start += count
        box, score = torch.cat(boxes), torch.cat(scores)
        whole = ((box[:, 3:] - box[:, :3]) > 1e-2).all(1) & score.isfinite() & box.isfinite().all(1)
        box, score = box[whole], score[whole]
        keep = nms(box, score, threshold, limit=after)
        out.append((box[keep], score[keep]))
    return out
