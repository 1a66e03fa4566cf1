"""Clean-up of label maps: stray pieces and holes, with the removed volume on record.

Two voxels of one label are of one piece when they share a face, an edge or a corner (26 neighbours). A hole is
background that no path through faces (6 neighbours) joins to the border of the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cc3d
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage

from medseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from monai.config import KeysCollection


class CleanComponentsd(MapTransform):
    """Keep the largest piece of a structure, drop small pieces, fill holes; in this order, value by value.

    Removed voxels become background (0). `meta["cleaned_ml"]` maps each value that was looked at to the volume
    removed from it, in mL, and `meta["filled_ml"]` to the volume filled.

    Args:
        keys: (1, I, J, K) label maps of an integer dtype or whole numbers, MetaTensors with affines.
        largest: values of which only the largest piece stays (of equal ones, the one nearest the array's start).
        min_mm3: value -> pieces with less volume than this go, mm3.
        fill_holes: values whose holes are filled; other structures inside a hole stay.
        allow_missing_keys: skip keys that are absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        largest: Sequence[int] = (),
        min_mm3: Mapping[int, float] | None = None,
        fill_holes: Sequence[int] = (),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.largest = frozenset(int(v) for v in largest)
        self.min_mm3 = {int(v): float(mm3) for v, mm3 in (min_mm3 or {}).items()}  # JSON has text for keys
        self.fill_holes = frozenset(int(v) for v in fill_holes)

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Clean every key; raises UsageError MS-U154 for what is no (1, I, J, K) MetaTensor."""
        out = dict(data)
        for key in self.key_iterator(out):
            labels = out[key]
            if not isinstance(labels, MetaTensor) or labels.ndim != 4 or len(labels) != 1:
                raise UsageError(
                    "MS-U154",
                    f"{key!r} must be a (1, I, J, K) label map with an affine, got {tuple(labels.shape)}",
                    mend="clean after RestoreGridd (or AsDiscreted(argmax=True)), decollated",
                )
            out[key] = self._clean(labels)
        return out

    def _clean(self, labels: MetaTensor) -> MetaTensor:
        array = np.ascontiguousarray(labels.as_tensor()[0].cpu().numpy()).copy()
        voxel_mm3 = float(abs(np.linalg.det(labels.affine[:3, :3].cpu().numpy())))
        # What an earlier clean-up in the same chain noted stays on record.
        removed, filled = (dict(labels.meta.get(key) or {}) for key in ("cleaned_ml", "filled_ml"))
        for value in sorted(self.largest | self.min_mm3.keys()):
            n = drop_pieces(array, value, self.min_mm3.get(value, 0.0) / voxel_mm3, only_largest=value in self.largest)
            removed[value] = removed.get(value, 0.0) + n * voxel_mm3 / 1000
        for value in sorted(self.fill_holes):
            filled[value] = filled.get(value, 0.0) + fill_holes(array, value) * voxel_mm3 / 1000
        cleaned = MetaTensor(torch.from_numpy(array)[None].to(labels.device), meta=dict(labels.meta))
        cleaned.affine = labels.affine.clone()
        cleaned.meta["cleaned_ml"] = removed
        cleaned.meta["filled_ml"] = filled
        return cleaned


def drop_pieces(labels: np.ndarray, value: int, min_voxels: float = 0.0, *, only_largest: bool = False) -> int:
    """Set pieces of one value to 0, in place.

    Args:
        labels: (I, J, K).
        value: the structure.
        min_voxels: pieces with fewer voxels go.
        only_largest: all but the largest go.

    Returns:
        How many voxels were removed.
    """
    box = _box(labels == value)
    if box is None:
        return 0
    part = labels[box]
    pieces = cc3d.connected_components(part == value, connectivity=26)
    sizes = np.bincount(pieces.ravel())
    keep = sizes >= min_voxels
    if only_largest:
        keep &= np.arange(len(sizes)) == 1 + sizes[1:].argmax()
    keep[0] = True
    part[~keep[pieces]] = 0
    return int(sizes[~keep].sum())


def fill_holes(labels: np.ndarray, value: int) -> int:
    """Give background enclosed by one structure (and what else lies inside it) to it, in place.

    Args:
        labels: (I, J, K).
        value: the structure.

    Returns:
        How many voxels were filled.
    """
    box = _box(labels == value)
    if box is None:
        return 0
    part = labels[box]
    hole = ndimage.binary_fill_holes(part == value) & (part == 0)
    part[hole] = value
    return int(hole.sum())


def _box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The bounding box of a mask, None if it is empty."""
    found = ndimage.find_objects(mask.view(np.uint8))
    return found[0] if found else None
