"""Patches of a fixed size, more often where instances are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform

from medseg.transforms.instances.check import instance_map
from medseg.transforms.instances.place import draw_box, draw_start

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from monai.config import KeysCollection
    from torch import Tensor


class RandInstanceCropd(RandomizableTransform, MapTransform):
    """Cut a patch of one size out of every key, with probability `prob` around a random instance, else anywhere.

    Around an instance, every place is equally likely where its box lies wholly in the patch (or, where the box is
    larger, the patch in the box). Where the image is smaller than the patch it is padded with 0.

    Args:
        keys: images and label maps (1 or C, I, J, K) on one grid.
        label_key: the instance map by which places are drawn, one of `keys`.
        spatial_size: of the patch, voxels.
        prob: probability of an instance's place.
        flags_key: the table of flags; regions to ignore are no instance. It may be absent.
        allow_missing_keys: skip keys that are absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str,
        spatial_size: Sequence[int],
        prob: float = 0.7,
        flags_key: str = "flags",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.label_key = label_key
        self.spatial_size = tuple(int(n) for n in spatial_size)
        self.flags_key = flags_key

    def choose(self, labels: Tensor, flags: Tensor | None = None) -> tuple[int, int, int]:
        """Draw the first voxel of a patch for an instance map (I, J, K)."""
        box = draw_box(self.R, labels, flags) if self.R.rand() < self.prob else None
        return draw_start(self.R, labels.shape, self.spatial_size, box)

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """All keys cut alike, with affines that say where; raises UsageError MS-U155 for a label that is no map."""
        out = dict(data)
        start = self.choose(instance_map(data, self.label_key), data.get(self.flags_key))
        for key in self.key_iterator(out):
            out[key] = cut_patch(data[key], start, self.spatial_size)
        return out


def cut_patch(image: Tensor, start: Sequence[int], size: Sequence[int]) -> Tensor:
    """(C, I, J, K) -> a copy (C, D, H, W) from voxel `start` on, 0 outside; a MetaTensor's affine moves along."""
    plain = image.as_tensor() if isinstance(image, MetaTensor) else image
    out = plain.new_zeros(len(plain), *size)
    taken, put = [slice(None)], [slice(None)]
    for first, n, m in zip(start, plain.shape[1:], size, strict=True):
        low, high = max(int(first), 0), max(min(int(first) + m, n), 0)
        taken.append(slice(min(low, high), high))
        put.append(slice(min(low, high) - int(first), high - int(first)))
    out[tuple(put)] = plain[tuple(taken)]
    if not isinstance(image, MetaTensor):
        return out
    move = torch.eye(4, dtype=image.affine.dtype, device=image.affine.device)
    move[:3, 3] = torch.as_tensor([float(n) for n in start])
    patch = MetaTensor(out, meta=dict(image.meta))
    patch.affine = image.affine @ move
    return patch
