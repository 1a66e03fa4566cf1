"""Faces in head scans: recognised, and masked in what is passed on.

A surface rendered from a head scan can be recognised (Schwarz et al., NEJM 2019). What is shown here is a coarse mask
for a page or a picture, made without a model: it is no substitute for mri_deface, pydeface or a CT equivalent before
data are published, and no guarantee. The scan on disk is never changed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medseg.reports.body import body_of, first_channel, sample_of

if TYPE_CHECKING:
    from medseg.volume import Volume

#: Adult and child heads, edge to edge at their widest, with the coarse mask's error.
_WIDTH_MM = (95.0, 220.0)
_LENGTH_MM = (115.0, 280.0)
#: Length over width: heads are longer than wide, trunks are not; a coarse or tilted head comes near 1.
_LONGER = 0.95
_SEEN_MM = 50.0
#: A head ends about this far below its vertex, at the chin.
_HEAD_MM = 240.0
#: The cut begins at the eyebrows, this far below the vertex, and falls back by `_SLOPE` mm a mm. By then it lies
#: this far behind the forehead.
_BROW_MM = 75.0
_BROW_DEPTH_MM = 14.0
_SLOPE = 0.5
#: From the widest cross-section of an upright head to its vertex: how far above an image that cuts the head off it
#: lies is told from its cross-sections as if of an ellipsoid.
_HALF_MM = 90.0
#: Voxels this near a structure that is to stay are kept too, so that its outline can be judged.
_KEEP_MM = 3.0


@dataclass(frozen=True)
class _Head:
    """Measures of a head, RAS mm in a frame along the image's axes, from its first voxel.

    Args:
        top: height of the vertex; above the image where it cuts the head off.
        forehead: how far to the front the head reaches above the eyebrows.
    """

    top: float
    forehead: float


def looks_like_head(image: Volume) -> bool:
    """Whether a scan may show a head, by the size of its silhouette; in doubt, yes.

    Looks at the widest cross-section of the topmost 240 mm of the patient: between 95 and 220 mm wide, 115 to 280 mm
    long, not wider than long, and at least 50 mm of it in view. So a brain without its skull counts as a head, and a
    limb may; a thin slab through a face (a cervical spine) and a face at the edge of a trunk scan wider than itself
    do not.

    Args:
        image: (I, J, K), or (C, I, J, K), of which the first channel is looked at.
    """
    return _measure(image) is not None


def deface(image: Volume, keep: np.ndarray | None = None) -> Volume:
    """The image with the face masked: everything in front of an oblique plane from the eyebrows to behind the chin.

    A plane, not a shell: a shell would leave the face's own relief behind it. The plane begins 75 mm below the vertex
    and 14 mm behind the forehead, and falls back by 1 mm every 2 mm; masked voxels take the value of air. Ears, teeth behind the plane and the skull's shape stay; where the image cuts the head off, the vertex is
    guessed. Eyes and the floor of the frontal lobe can be masked in part. Coarse, no guarantee.

    Args:
        image: (I, J, K) or (C, I, J, K).
        keep: (I, J, K); voxels above 0, and those within 3 mm, are never masked.

    Returns:
        A new volume on the same grid; `image` itself where no head is recognised.

    Raises:
        ValueError: `keep` has another shape.
    """
    if keep is not None and keep.shape != image.grid.shape:
        msg = f"the mask to keep has the image's shape {image.grid.shape}, got {keep.shape}"
        raise ValueError(msg)
    head = _measure(image)
    if head is None:
        return image
    face = _in_front(image, head)
    if keep is not None and (keep > 0).any():
        face &= ~_near(keep > 0, image.spacing_mm)
    out = (image.array if image.array.ndim == 4 else image.array[None]).copy()
    for channel in out:
        channel[face] = _air(channel)
    return replace(image, array=out if image.array.ndim == 4 else out[0])


def _measure(image: Volume) -> _Head | None:
    """The head's measures, None where there is none."""
    turned = replace(image, array=first_channel(image)).reoriented("RAS")
    body = body_of(turned)
    spacing = [s * n for s, n in zip(turned.spacing_mm, body.step, strict=True)]
    levels = np.flatnonzero(body.mask.any(axis=(0, 1)))
    if not levels.size:
        return None
    top = int(levels[-1])
    upper = body.mask[:, :, max(0, top + 1 - round(_HEAD_MM / spacing[2])) : top + 1]
    seen = np.count_nonzero(upper.any(axis=(0, 1))) * spacing[2]
    widths = _extent(upper, 0) * spacing[0]
    lengths = _extent(upper, 1) * spacing[1]
    # The trunk below a short neck is no head: look where the upper part is widest before it grows past a head.
    within = widths <= _WIDTH_MM[1]
    if not within.any() or seen < _SEEN_MM:
        return None
    # From the top down as far as it stays within a head's width: at least half of what is in view.
    down = within[::-1]
    run = len(down) if down.all() else int(np.argmin(down))
    if run * spacing[2] < _SEEN_MM:
        return None
    widths, lengths = widths[-run:], lengths[-run:]
    at = int(np.argmax(widths * lengths))
    width, length = float(widths[at]), float(lengths[at])
    if not (_WIDTH_MM[0] <= width and _LENGTH_MM[0] <= length <= _LENGTH_MM[1] and length >= _LONGER * width):
        return None
    vertex = (top + 1) * spacing[2]
    if top == body.mask.shape[2] - 1:
        areas = body.mask.sum(axis=(0, 1))[-run:]
        vertex += _HALF_MM * (1 - float(np.sqrt(1 - areas[-1] / areas.max())))
    return _Head(vertex, _forehead(body.mask, vertex, spacing))


def _forehead(mask: np.ndarray, vertex: float, spacing: list[float]) -> float:
    """How far the head reaches to the front between 45 and 75 mm below the vertex, or at the image's upper edge, mm."""
    low, high = (int((vertex - below) / spacing[2]) for below in (_BROW_MM, 45.0))
    n = mask.shape[2]
    slab = mask[:, :, max(0, min(low, n - 2)) : max(1, min(high, n))]
    slab = slab if slab.any() else mask
    fronts = np.where(slab.any(axis=1), slab.shape[1] - 1 - np.argmax(slab[:, ::-1], axis=1), -1)
    return (float(np.percentile(fronts[fronts >= 0], 98)) + 1) * spacing[1]


def _extent(mask: np.ndarray, axis: int) -> np.ndarray:
    """(k,) voxels from the first to the last of the mask along an axis, a slice each."""
    seen = np.asarray(mask.any(axis=1 - axis))
    first, last = seen.argmax(axis=0), seen.shape[0] - 1 - seen[::-1].argmax(axis=0)
    return np.where(seen.any(axis=0), last - first + 1, 0)


def _in_front(image: Volume, head: _Head) -> np.ndarray:
    """(I, J, K) bool in the image's own order: the voxels in front of the plane."""
    turned = image.reoriented("RAS")
    _, dy, dz = turned.spacing_mm
    i, j, k = turned.grid.shape
    below = head.top - (np.arange(k) + 0.5) * dz
    cut = head.forehead - (_BROW_DEPTH_MM + _SLOPE * (below - _BROW_MM))
    front = (np.arange(j) + 0.5)[:, None] * dy > cut
    front &= (below >= _BROW_MM) & (below <= _HEAD_MM)
    face = np.broadcast_to(front, (i, j, k))
    # Back to the file's order through a volume, which knows how.
    return replace(turned, array=face).reoriented(image.grid.axcodes).array.copy()


def _air(channel: np.ndarray) -> np.generic:
    """A value as dark as what surrounds a head; a voxel's own, so it fits the array's type."""
    sample = np.sort(sample_of(channel))
    return sample[len(sample) // 100] if len(sample) else channel.dtype.type(0)


def _near(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """The mask and everything within `_KEEP_MM` of it."""
    found = np.argwhere(mask)
    reach = np.ceil(_KEEP_MM / np.array(spacing_mm)).astype(int)
    low, high = np.maximum(found.min(axis=0) - reach, 0), found.max(axis=0) + reach + 1
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    out = np.zeros_like(mask)
    away = np.asarray(ndimage.distance_transform_edt(np.logical_not(mask[box]), sampling=spacing_mm))
    out[box] = away <= _KEEP_MM
    return out
