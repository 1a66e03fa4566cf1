"""Leave out the air: the box of the body, grown to whole windows.

Windows of clinical size are hardly ever all air, so skipping them gains nothing; a smaller box, however, needs
fewer windows (a 512-pixel CT slice holds a patient of about 350 pixels).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.utils import ensure_tuple_rep

from medseg.inferers.memory import Event
from medseg.inferers.windows import by, scan_intervals, window_grid, windows_to_cover

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# Voxels around the body that stay in the box, so that a network sees the skin from outside.
MARGIN = 8


def what_to_segment(
    image: Tensor, threshold: float | None, roi_size: Sequence[int] | int, overlap: Sequence[float] | float
) -> tuple[tuple[slice, ...], Event | None]:
    """The part of an image that windows are laid on, one slice per spatial axis, and what to tell about it.

    Args:
        image: (B, C, *space) preprocessed image.
        threshold: of the body, in the units of `image`; None takes the whole image.
        roi_size: window shape, as for `window_grid`.
        overlap: as for `window_grid`.
    """
    shape = tuple(image.shape[2:])
    whole = tuple(slice(0, n) for n in shape)
    if threshold is None:
        return whole, None
    body = body_box(image, threshold)
    if body is None:
        said = f"no voxel is above body_threshold {threshold:g}: the whole image is segmented"
        return whole, Event("MS-M222", said)
    box = grow_to_windows(body, shape, roi_size, overlap)
    if box == whole:
        return whole, None
    inside = tuple(side.stop - side.start for side in box)
    fewer, before = (len(window_grid(space, roi_size, overlap)) for space in (inside, shape))
    said = f"body box of {by(inside)} in {by(shape)} voxels: {fewer} windows instead of {before}"
    return box, Event("MS-M221", said)


def body_box(image: Tensor, threshold: float) -> tuple[slice, ...] | None:
    """Bounding box of all voxels above a threshold, in any channel of any item.

    Args:
        image: (B, C, *space) preprocessed image.
        threshold: in the units of `image`; NaN counts as above.

    Returns:
        One slice per spatial axis, or None where no voxel is above.
    """
    box = []
    for axis in range(2, image.ndim):
        others = tuple(i for i in range(image.ndim) if i != axis)
        planes = torch.nonzero(~(image.amax(dim=others) <= threshold)).flatten()
        if not len(planes):
            return None
        box.append(slice(int(planes[0]), int(planes[-1]) + 1))
    return tuple(box)


def grow_to_windows(
    box: Sequence[slice],
    image: Sequence[int],
    roi_size: Sequence[int] | int,
    overlap: Sequence[float] | float,
    margin: Sequence[int] | int = MARGIN,
) -> tuple[slice, ...]:
    """Widen a box by a margin and then, where the image allows, until its windows fit without being pulled back.

    The second step costs no window and gives the outermost ones real surroundings.

    Args:
        box: one slice per spatial axis.
        image: spatial shape.
        roi_size: window shape, as for `window_grid`.
        overlap: as for `window_grid`.
        margin: voxels on each side, one for all axes or one per axis.
    """
    intervals, rois = scan_intervals(image, roi_size, overlap)
    margins = ensure_tuple_rep(margin, len(image))
    return tuple(_grow(*axis) for axis in zip(box, image, rois, intervals, margins, strict=True))


def _grow(side: slice, size: int, roi: int, interval: int, margin: int) -> slice:
    low, high = max(side.start - margin, 0), min(side.stop + margin, size)
    whole = roi + (windows_to_cover(high - low, roi, interval) - 1) * interval
    whole = min(whole, size)
    low = min(max(low - (whole - (high - low)) // 2, 0), size - whole)
    return slice(low, low + whole)
