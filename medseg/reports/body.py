"""Where the patient is in an image: a coarse mask, to leave air out of a page and to recognise a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from medseg.volume import Volume

#: The mask is made on about this spacing: enough for a box and a silhouette, and quick on the largest scans.
COARSE_MM = 3.0
#: Between air (-1000) and fat (-100); the table and clothes lie below or are cut off by the opening.
_CT_SKIN = -300.0
#: Of the way from air to bright tissue, for images without a scale.
_MR_SKIN = 0.12


@dataclass(frozen=True, eq=False)
class Body:
    """The patient's silhouette.

    Args:
        mask: (i, j, k) bool, every `step`-th voxel of the image along each axis.
        step: voxels of the image between two of the mask.
    """

    mask: np.ndarray
    step: tuple[int, int, int]

    def box(self, shape: tuple[int, ...], margin: int = 2) -> tuple[slice, ...]:
        """The part of an image of `shape` that holds the mask and `margin` further steps; all of it without a mask."""
        found = ndimage.find_objects(self.mask.astype(np.uint8))
        if not found:
            return tuple(slice(0, n) for n in shape)
        return tuple(
            slice(max(0, (s.start - margin) * step), min(n, (s.stop + margin) * step))
            for s, step, n in zip(found[0], self.step, shape, strict=True)
        )


def first_channel(image: Volume) -> np.ndarray:
    """(I, J, K): the image, or the first of its channels."""
    return image.array if image.array.ndim == 3 else image.array[0]


def in_hounsfield_units(image: Volume) -> bool:
    """Whether the values look like CT numbers: a CT with values below zero, or air far below it.

    NIfTI does not say what a scan is, and no other modality has a part of its voxels below -500. Some CTs come
    without their rescale intercept, so the word alone is not enough.
    """
    sample = sample_of(first_channel(image))
    if not sample.size or image.source.modality not in (None, "CT"):
        return False
    return bool(sample.min() < 0 if image.source.modality == "CT" else np.mean(sample < -500) > 0.02)


def body_of(image: Volume) -> Body:
    """The largest connected piece of tissue, holes filled. Only a silhouette: accurate to about 5 mm.

    CT: above -300 HU. Else: above 12 % of the way from the darkest to the brightest values, which air stays under
    where an image has any.
    """
    array = first_channel(image)
    i, j, k = (max(1, min(n // 8, round(COARSE_MM / s))) for n, s in zip(array.shape, image.spacing_mm, strict=True))
    coarse = np.nan_to_num(array[::i, ::j, ::k].astype(np.float32), posinf=0.0, neginf=0.0)
    if in_hounsfield_units(image):
        level = _CT_SKIN
    else:
        low, high = np.percentile(coarse, (2, 98))
        level = low + _MR_SKIN * (high - low)
        for axis in (a for a, n in enumerate(coarse.shape) if n >= 16):
            coarse = ndimage.uniform_filter1d(coarse, 3, axis=axis)
    mask = coarse > level
    opened = ndimage.binary_opening(mask) if min(mask.shape) >= 8 else mask
    labels, count = ndimage.label(opened)  # type: ignore[misc]
    if count:
        sizes = np.bincount(labels.reshape(-1))
        sizes[0] = 0
        mask = labels == sizes.argmax()
    return Body(np.asarray(ndimage.binary_fill_holes(mask)), (i, j, k))


def sample_of(array: np.ndarray, most: int = 200_000) -> np.ndarray:
    """At most about `most` finite values, evenly from the whole array."""
    sample = array.reshape(-1)[:: max(1, array.size // most)]
    return sample[np.isfinite(sample)]
