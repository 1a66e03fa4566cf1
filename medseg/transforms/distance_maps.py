"""How far each voxel lies from a structure's surface, in mm, once per case: what distance losses need at every step.

The distance runs from voxel centre to voxel centre: outside to the nearest of the structure, inside, negative, to the
nearest that is not of it. So a structure's map is its complement's with the sign turned, and the surface lies between.

Worked example: the row 0 0 1 1 1 with voxels of 2 mm has the map 4 2 -2 -4 -6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import edt
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple
from torch import Tensor

from medseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from monai.config import KeysCollection


def signed_distance_mm(
    mask: np.ndarray, spacing_mm: Sequence[float], unknown: np.ndarray | None = None, threads: int = 1
) -> np.ndarray:
    """Signed distance to a mask's surface, as above; 0 all over where there is no surface.

    Args:
        mask: (I, J, K) bool.
        spacing_mm: (3,).
        unknown: (I, J, K) bool, voxels on neither side: distances run to known voxels only.
        threads: at most this many.

    Returns:
        (I, J, K) float32.
    """
    inside = mask if unknown is None else mask & ~unknown
    outside = ~mask if unknown is None else ~(mask | unknown)
    if not (inside.any() and outside.any()):
        return np.zeros(mask.shape, np.float32)
    keep = {"anisotropy": tuple(spacing_mm), "black_border": False, "parallel": threads}
    if unknown is None:  # edt measures to the nearest other label; its label 0 has no distance
        distance = edt.edt(np.ascontiguousarray(mask).view(np.uint8) + np.uint8(1), **keep)
        return np.negative(distance, out=distance, where=mask)
    to_inside, to_outside = (edt.edt(np.ascontiguousarray(~side), **keep) for side in (inside, outside))
    return np.where(unknown, 0, np.where(inside, -to_outside, to_inside)).astype(np.float32)


class DistanceMapsd(MapTransform):
    """Signed distance maps of a label's structures, for `medseg.losses.BoundaryLoss` and `HausdorffLoss`.

    In a bundle, among the deterministic transforms, so that the maps are cached with the case; spatial transforms then
    treat "distances" like an image; and at the end the maps go behind the label, where the losses look for them:

        {"_target_": "medseg.transforms.DistanceMapsd", "keys": "label", "classes": [1, 2]}
        ... spatial transforms of ["image", "label", "distances"] ...
        {"_target_": "ConcatItemsd", "keys": ["label", "distances"], "name": "label"}

    Turning, flipping and cutting keep the maps exact; where a transform enlarges or bends the scan they keep the mm of
    the scan before. Voxels that are padded get 0: no say.

    Args:
        keys: label maps (1, I, J, K), or (C, I, J, K) where each channel is a structure where it is above 1/2.
        classes: one map for each: its value in the label map (several values: their union), or its channel. For
            softmax losses without background: all classes but 0, in order.
        names: of the maps (K, I, J, K) float32; None: "distances".
        spacing_mm: voxel size; None: from the label's affine.
        ignore_index: value of voxels on neither side.
        allow_missing_keys: skip keys that are absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        classes: Sequence[int | Sequence[int]],
        names: KeysCollection | None = None,
        *,
        spacing_mm: Sequence[float] | None = None,
        ignore_index: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        names = ensure_tuple("distances" if names is None else names)
        if len(names) != len(self.keys) or not classes:
            msg = f"wanted classes, and a name for the maps of each of {self.keys}; got {classes!r} and {names}"
            raise ValueError(msg)
        self.classes = tuple(classes)
        self.names = names
        self.spacing_mm = spacing_mm
        self.ignore_index = ignore_index

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Add the maps; raises UsageError MS-U150 for what is no (C, I, J, K) tensor with an affine (or spacing)."""
        out = dict(data)
        for key, name in self.key_iterator(out, self.names):
            label = out[key]
            spacing_mm = self._spacing(label, key)
            array = label.numpy(force=True)
            unknown = None
            if self.ignore_index is not None:
                unknown = (array == self.ignore_index).any(0)
                unknown = unknown if unknown.any() else None
            maps = torch.zeros(len(self.classes), *array.shape[1:])
            for k, values in enumerate(self.classes):
                one = len(array) == 1
                mask = np.isin(array[0], values) if one else array[np.atleast_1d(values)].max(0) > 0.5
                found = signed_distance_mm(mask, spacing_mm, unknown, torch.get_num_threads())
                maps[k] = torch.from_numpy(found)
            out[name] = MetaTensor(maps, meta=dict(label.meta)) if isinstance(label, MetaTensor) else maps
        return out

    def _spacing(self, label: Tensor, key: Hashable) -> tuple[float, ...]:
        placed = self.spacing_mm is not None or isinstance(label, MetaTensor)
        if not (isinstance(label, Tensor) and label.ndim == 4 and placed):
            what = f"{type(label).__name__} of shape {tuple(getattr(label, 'shape', ()))}"
            raise UsageError(
                "MS-U150",
                f"{key!r} is a {what}, distances need a (C, I, J, K) MetaTensor with an affine",
                mend="load it with medseg.transforms.VolumeReader, or give DistanceMapsd its spacing_mm",
            )
        if self.spacing_mm is not None:
            return tuple(float(s) for s in self.spacing_mm)
        affine = np.asarray(label.affine, np.float64)  # type: ignore[attr-defined]
        return tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
