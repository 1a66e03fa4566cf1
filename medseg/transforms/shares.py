"""Soft labels: what share of the annotators says each class, made of their label maps at the very last.

Label maps are cut, deformed and mirrored exactly (left and right trade, no value is interpolated) and take a byte a
voxel; shares take four for each class. So the maps travel through the pipeline as channels of one integer array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medseg.transforms.regions import to_regions

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from torch import Tensor

#: A voxel of which no annotator says anything; the `ignore_index` of a loss.
UNKNOWN = -1.0


def shares(maps: Tensor, classes: int, regions: Sequence[Sequence[int]] = (), ignore: int | None = None) -> Tensor:
    """Label maps of annotators as shares.

    Args:
        maps: (A, I, J, K) values of A annotators.
        classes: channels of the network; without regions channel c is the class c.
        regions: label values that each channel holds, of regions.
        ignore: value of voxels that an annotator leaves open; the others' shares count then.

    Returns:
        (C, I, J, K) float32; `UNKNOWN` in all channels where no annotator says anything.
    """
    parts = [tuple(one) for one in regions] or [(c,) for c in range(classes)]
    said = torch.stack([to_regions(one[None], parts) for one in maps])
    if ignore is None:
        return said.mean(0)
    spoken = (maps != ignore).sum(0, keepdim=True)
    return (said.sum(0) / spoken.clamp(min=1)).masked_fill(spoken == 0, UNKNOWN)


class SharesFromAnnotatorsd(MapTransform):
    """Replace the label by the shares of annotators; where there are none, by what the label map alone says.

    Args:
        keys: of the label map (1, I, J, K), which becomes (C, I, J, K) float32.
        annotators: key of their label maps (A, I, J, K); it is taken out, as A differs from case to case.
        classes, regions, ignore: see `shares`.
    """

    def __init__(
        self,
        keys: str = "label",
        annotators: str = "annotators",
        classes: int = 2,
        regions: Sequence[Sequence[int]] = (),
        ignore: int | None = None,
    ) -> None:
        super().__init__(keys)
        self.annotators = annotators
        self.classes = int(classes)
        self.regions = tuple(tuple(int(v) for v in parts) for parts in regions)
        self.ignore = ignore

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """See the class."""
        out = dict(data)
        told = out.pop(self.annotators, None)
        for key in self.key_iterator(out):
            label = out[key]
            maps = label if told is None else told
            plain = maps.as_tensor() if isinstance(maps, MetaTensor) else maps
            made = shares(plain, self.classes, self.regions, self.ignore)
            out[key] = MetaTensor(made).copy_meta_from(label) if isinstance(label, MetaTensor) else made
        return out
