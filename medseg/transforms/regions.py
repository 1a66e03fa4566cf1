"""Nested structures as channels: a label map, and the label values that each region holds.

Worked example: a tumour's label map holds 1 oedema, 2 core, 3 enhancing. The regions whole = (1, 2, 3), core = (2, 3) and
enhancing = (3,) are three channels of 0 and 1, each inside the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from monai.config import KeysCollection
    from torch import Tensor


def to_regions(labels: Tensor, regions: Sequence[Sequence[int]], axis: int = 0) -> Tensor:
    """A label map as region channels.

    Args:
        labels: one channel along `axis`, any dtype.
        regions: label values that each region holds.
        axis: of the channel.

    Returns:
        R channels along `axis`, float32 of 0 and 1.

    Raises:
        ValueError: more than one channel.
    """
    if labels.shape[axis] != 1:
        msg = f"regions are made of one label map, got {labels.shape[axis]} channels"
        raise ValueError(msg)
    inside = [
        torch.isin(labels, torch.as_tensor(list(parts), dtype=labels.dtype, device=labels.device)) for parts in regions
    ]
    return torch.cat(inside, axis).float()


class RegionsFromLabeld(MapTransform):
    """Replace label maps (1, I, J, K) by region channels (R, I, J, K), float32 of 0 and 1.

    Args:
        keys: label maps.
        regions: label values that each region holds, in the order of the network's channels.
        allow_missing_keys: skip keys that are absent.
    """

    def __init__(
        self, keys: KeysCollection, regions: Sequence[Sequence[int]], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.regions = tuple(tuple(int(v) for v in parts) for parts in regions)

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Replace every key; a MetaTensor keeps its meta and affine."""
        out = dict(data)
        for key in self.key_iterator(out):
            label = out[key]
            plain = label.as_tensor() if isinstance(label, MetaTensor) else label
            channels = to_regions(plain, self.regions)
            out[key] = MetaTensor(channels).copy_meta_from(label) if isinstance(label, MetaTensor) else channels
        return out
