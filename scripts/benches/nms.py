"""Hard non-maximum suppression of 3D boxes against MONAI's, on a CPU.

Boxes of 4 to 30 voxels in a cube: the usual spread, where most boxes stay, and a crowd, where most go. Both sides must
keep the same indices in the same order; one thread.
"""

from __future__ import annotations

import torch
from interleaved import timed
from monai.data.box_utils import non_max_suppression

from medseg.boxes.nms import nms

#: boxes, side of the cube in voxels, IoU threshold
CASES = [(1000, 200, 0.1), (1000, 60, 0.3), (3000, 200, 0.1), (3000, 60, 0.3)]


def rows(quick: bool = False) -> list[dict]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = []
    try:
        for count, side, threshold in [(200, 60, 0.3)] if quick else CASES:
            boxes, scores = crowd(count, side)
            kept = nms(boxes, scores, threshold)
            if not torch.equal(kept, non_max_suppression(boxes, scores, threshold)):
                raise AssertionError("the two sides keep different boxes")
            ways = {
                "medseg": lambda b=boxes, s=scores, t=threshold: nms(b, s, t),
                "MONAI": lambda b=boxes, s=scores, t=threshold: non_max_suppression(b, s, t),
            }
            case = f"{count} boxes in {side}^3, IoU > {threshold}: {len(kept)} kept, identical indices"
            out += timed(case, ways, 1 if quick else 5)
    finally:
        torch.set_num_threads(threads)
    return out


def crowd(count: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(count)
    low = torch.rand(count, 3, generator=rng) * side
    return torch.cat([low, low + 4 + torch.rand(count, 3, generator=rng) * 26], 1), torch.rand(count, generator=rng)
