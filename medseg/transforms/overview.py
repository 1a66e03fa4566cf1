"""The whole scan, small: what a locator looks at before anything is segmented.

A cell of the overview is a block of whole voxels of the network's grid, so that cell i of a factor f holds the voxels
[f i, f i + f) and nothing is interpolated; the last cell along an axis may hold fewer. Grey values are averaged. Of labels
a cell says whether it, or a cell that touches it, holds a structure: a lesion of one voxel is seen as well as an organ, and
one whose halves lie in two cells is found by either.

Worked example: 10 voxels, factor 4: cells of 4, 4 and 2 voxels. A structure at voxel 9 is in cell 2; cells 1 and 2 say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform
from torch.nn.functional import avg_pool3d, max_pool3d

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from torch import Tensor

#: Keys of what `Overviewd` makes.
OVERVIEW, WHEREABOUTS = "overview", "whereabouts"


def overview(image: Tensor, factors: Sequence[int]) -> Tensor:
    """(B, C, *space) -> (B, C, *cells) float32 means of the cells, `factors` voxels along each axis."""
    return avg_pool3d(image.float(), _cell(image, factors), ceil_mode=True, count_include_pad=False)


def whereabouts(inside: Tensor, factors: Sequence[int]) -> Tensor:
    """(B, 1, *space) of 0 and 1 -> (B, 1, *cells) float32: 1 where a cell or one that touches it holds a 1."""
    held = max_pool3d(inside.float(), _cell(inside, factors), ceil_mode=True)
    return max_pool3d(held, 3, stride=1, padding=1)


class Overviewd(MapTransform):
    """Add the scan's overview and where its structures are.

    Args:
        factors: voxels of a cell along each axis.
        values: label values that are structures; None: all but 0.
        image_key: (C, I, J, K); its overview becomes `overview` (C, *cells), a MetaTensor with the cells' affine.
        label_key: (1, I, J, K), or with the label map first; its whereabouts become `whereabouts` (1, *cells), likewise.
    """

    def __init__(
        self,
        factors: Sequence[int],
        values: Sequence[int] | None = None,
        image_key: str = "image",
        label_key: str = "label",
    ) -> None:
        super().__init__((image_key, label_key))
        self.factors = tuple(int(f) for f in factors)
        self.values = None if values is None else tuple(int(v) for v in values)
        self.image_key, self.label_key = image_key, label_key

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """See the class."""
        image, label = data[self.image_key], _plain(data[self.label_key])[:1]
        inside = label != 0 if self.values is None else torch.isin(label, torch.tensor(self.values).to(label))
        affine = image.affine if isinstance(image, MetaTensor) else torch.eye(4, dtype=torch.float64)
        cells = cell_affine(affine, self.factors)
        return {
            **data,
            OVERVIEW: MetaTensor(overview(_plain(image)[None], self.factors)[0], affine=cells),
            WHEREABOUTS: MetaTensor(whereabouts(inside[None], self.factors)[0], affine=cells),
        }


def cell_affine(affine: Tensor, factors: Sequence[int]) -> Tensor:
    """(4, 4) of the cells, from that of the voxels: the centre of cell 0 is that of its voxels 0 to f - 1."""
    scale = torch.diag(torch.tensor([*factors, 1], dtype=affine.dtype))
    scale[:3, 3] = (torch.tensor(factors, dtype=affine.dtype) - 1) / 2
    return affine @ scale.to(affine.device)


def _cell(image: Tensor, factors: Sequence[int]) -> tuple[int, ...]:
    """A cell is never larger than the image: torch refuses to average where none fits."""
    return tuple(min(f, n) for f, n in zip(factors, image.shape[2:], strict=True))


def _plain(value: Tensor) -> Tensor:
    return value.as_tensor() if isinstance(value, MetaTensor) else value
