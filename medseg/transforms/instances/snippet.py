"""One instance cut out of an image with a soft border, and put down elsewhere (Ghiasi et al., CVPR 2021).

A voxel of the instance is taken over as it is. Outside, the border fades linearly over `soft_mm`: at distance d the
snippet has weight 1 - d / soft_mm, so that no edge betrays what was pasted. Voxels of other instances are left alone,
in the image that gives as in the one that takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Snippet:
    """An instance with its surroundings.

    Args:
        image: (C, d, h, w).
        mask: (d, h, w) bool, the instance.
        weight: (d, h, w) float32: 1 in the instance, falling to 0 outside.
        box: (3,), (3,) first and last + 1 voxel of the instance in these arrays.
        kind: its class.
        flags: its flags.
    """

    image: Tensor
    mask: Tensor
    weight: Tensor
    box: tuple[tuple[int, ...], tuple[int, ...]]
    kind: int
    flags: int


def cut_snippet(
    image: Tensor,
    labels: Tensor,
    number: int,
    box: Sequence[float],
    *,
    spacing_mm: Sequence[float],
    soft_mm: float,
    kind: int = 0,
    flags: int = 0,
) -> Snippet:
    """Cut instance `number` out of an image.

    Args:
        image: (C, I, J, K).
        labels: (I, J, K) instance map.
        number: the id.
        box: (6,) its voxel edges.
        spacing_mm: voxel size along each axis.
        soft_mm: width of the soft border; 0 for none.
        kind: its class.
        flags: its flags.
    """
    margin = [int(np.ceil(soft_mm / s)) for s in spacing_mm]
    low = [max(int(box[a]) - margin[a], 0) for a in range(3)]
    high = [min(int(box[a + 3]) + margin[a], labels.shape[a]) for a in range(3)]
    here = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    part = labels[here]
    mask = part == number
    weight = mask.float()
    if soft_mm > 0:
        away = np.asarray(ndimage.distance_transform_edt(~mask.numpy(), sampling=spacing_mm))
        weight = torch.from_numpy(np.clip(1 - away / soft_mm, 0, 1).astype(np.float32))
        weight[(part > 0) & ~mask] = 0
    inner = tuple(int(box[a]) - low[a] for a in range(3)), tuple(int(box[a + 3]) - low[a] for a in range(3))
    return Snippet(image[:, *here].clone(), mask.clone(), weight, inner, kind, flags)


def hidden_share(labels: Tensor, snippet: Snippet, start: Sequence[int]) -> float:
    """The greatest share of any instance's voxels that a snippet whose instance's box begins at `start` would cover."""
    here, part = _window(labels.shape, snippet, start)
    covered = labels[here][snippet.mask[part]]
    ids = torch.unique(covered[covered > 0])
    return max((int((covered == i).sum()) / int((labels == i).sum()) for i in ids.tolist()), default=0.0)


def put_snippet(image: Tensor, labels: Tensor, snippet: Snippet, start: Sequence[int], number: int) -> None:
    """Put a snippet down as instance `number`, in place.

    Args:
        image: (C, I, J, K) floating point.
        labels: (I, J, K) instance map.
        snippet: what.
        start: first voxel of the instance's box, such that the box lies in the image.
        number: a new id.
    """
    here, part = _window(labels.shape, snippet, start)
    mask, weight = snippet.mask[part], snippet.weight[part].to(image.dtype)
    beneath = labels[here]
    weight = torch.where((beneath > 0) & ~mask, torch.zeros_like(weight), weight)
    view = image[:, *here]
    view.copy_(torch.lerp(view, snippet.image[:, *part], weight))  # exact where the weight is 0 or 1
    beneath[mask] = number


def _window(
    shape: Sequence[int], snippet: Snippet, start: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a snippet lies in an image, and its part that lies there (a soft border may be cut off)."""
    first = [int(s) - b for s, b in zip(start, snippet.box[0], strict=True)]
    low = [max(f, 0) for f in first]
    high = [min(f + n, m) for f, n, m in zip(first, snippet.mask.shape, shape, strict=True)]
    here = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    part = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))
    return here, part
