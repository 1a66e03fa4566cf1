"""Where a patch of fixed size lies in an image: anywhere, or around a box."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.boxes.convention import boxes_of_instances
from medseg.readers.instance_table import IGNORE, STUFF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def draw_start(
    rng: np.random.RandomState, shape: Sequence[int], size: Sequence[int], box: Sequence[float] | None = None
) -> tuple[int, int, int]:
    """The first voxel of a patch, drawn among all places in the image.

    Args:
        rng: MONAI's `self.R`.
        shape: of the image, (I, J, K).
        size: of the patch. Along an axis where the image is no longer than the patch, the image lies in its middle
            (the start is 0 or negative, and nothing is drawn).
        box: (6,) voxel edges that must lie in the patch, wherever that is possible; along an axis where the box is
            longer than the patch, the patch lies in the box.

    Returns:
        (3,) whole numbers.
    """
    start = []
    for axis, (n, m) in enumerate(zip(shape, size, strict=True)):
        slack = n - m
        if slack <= 0:
            start.append(slack // 2)
            continue
        low, high = 0, slack
        if box is not None:
            first, last = int(np.floor(box[axis])), int(np.ceil(box[axis + 3])) - m
            low, high = np.clip([min(first, last), max(first, last)], 0, slack)
        start.append(int(rng.randint(low, high + 1)))
    i, j, k = start
    return i, j, k


def draw_box(rng: np.random.RandomState, labels: Tensor, flags: Tensor | None = None) -> Sequence[float] | None:
    """The box of an instance, all equally likely; None when there is none.

    Args:
        rng: MONAI's `self.R`.
        labels: (I, J, K) instance map.
        flags: (N + 1,); regions to ignore and stuff are not drawn.
    """
    ids, boxes = boxes_of_instances(labels)
    if flags is not None:
        boxes = boxes[(flags.to(ids.device)[ids] & (IGNORE | STUFF)) == 0]
    return boxes[rng.randint(len(boxes))].tolist() if len(boxes) else None
