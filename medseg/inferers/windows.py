"""Where the windows lie: MONAI's positions, ordered so that one axis is walked from end to end once.

A window grid is laid on the image after it was padded to at least one window, half of the padding on each side
(the odd voxel behind), as `monai.inferers.sliding_window_inference` does. The starts along each axis come from
MONAI's own `dense_patch_slices`, so no position differs from MONAI's by a voxel.

Worked example: 150 voxels, window 64, overlap 0.25: the interval is int(64 * 0.75) = 48, the starts are 0, 48 and
86 (the last one is pulled back to end with the image).

`spread` lays as few windows as cover the image at evenly rounded distances instead, as nnU-Net does
(`compute_steps_for_sliding_window`): 110 voxels, window 64, overlap 0.5: 0, 23 and 46.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING

from monai.data.utils import dense_patch_slices
from monai.utils import ensure_tuple_rep, fall_back_tuple

from medseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Another axis than the first is walked only where it saves at least this share of the accumulator: along the first
# axis slabs are contiguous and windows come in MONAI's own order.
SAVING_THAT_TURNS = 0.25


@dataclass(frozen=True)
class WindowGrid:
    """The windows over one image.

    Args:
        image: spatial shape of the image, unpadded.
        roi: spatial shape of a window.
        pad: voxels added before and after, per axis.
        starts: window starts in the padded image, ascending, per axis.
        axis: the spatial axis that is walked once; only windows of one start along it are open at a time.
    """

    image: tuple[int, ...]
    roi: tuple[int, ...]
    pad: tuple[tuple[int, int], ...]
    starts: tuple[tuple[int, ...], ...]
    axis: int

    @property
    def padded(self) -> tuple[int, ...]:
        """Spatial shape of the padded image."""
        return tuple(n + before + after for n, (before, after) in zip(self.image, self.pad, strict=True))

    @property
    def slab(self) -> tuple[int, ...]:
        """Spatial shape of what is open at a time: the padded image, one window thick along `axis`."""
        return (*self.padded[: self.axis], self.roi[self.axis], *self.padded[self.axis + 1 :])

    def __len__(self) -> int:
        return prod(len(starts) for starts in self.starts)

    def positions(self) -> Iterator[tuple[int, ...]]:
        """Starts of all windows in the padded image, slowest along `axis`."""
        others = [starts for i, starts in enumerate(self.starts) if i != self.axis]
        for first in self.starts[self.axis]:
            for rest in itertools.product(*others):
                yield (*rest[: self.axis], first, *rest[self.axis :])


def window_grid(
    image: Sequence[int], roi_size: Sequence[int] | int, overlap: Sequence[float] | float, *, spread: bool = False
) -> WindowGrid:
    """Lay MONAI's windows over an image.

    Args:
        image: spatial shape in voxels.
        roi_size: window shape; a component that is None or not positive takes the image's size.
        overlap: share of a window that the next one covers again, per axis or one for all, in [0, 1).
        spread: at even distances, see the file's docstring.

    Raises:
        UsageError: MS-U141 where the numbers do not fit the image's dimensions.
    """
    image = tuple(int(n) for n in image)
    intervals, roi = scan_intervals(image, roi_size, overlap)
    pad = tuple(((r - n) // 2, r - n - (r - n) // 2) if r > n else (0, 0) for n, r in zip(image, roi, strict=True))
    padded = tuple(max(n, r) for n, r in zip(image, roi, strict=True))
    if spread:
        overlaps = ensure_tuple_rep(overlap, len(image))
        starts = tuple(even_starts(n, r, r * (1 - float(o))) for n, r, o in zip(padded, roi, overlaps, strict=True))
    else:
        starts = tuple(
            tuple(int(window[0].start) for window in dense_patch_slices((n,), (r,), (step,)))
            for n, r, step in zip(padded, roi, intervals, strict=True)
        )
    return WindowGrid(image, roi, pad, starts, _axis_to_walk(padded, roi))


def scan_intervals(
    image: Sequence[int], roi_size: Sequence[int] | int, overlap: Sequence[float] | float
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Distance between windows and window shape, per axis, as MONAI computes them: int(roi * (1 - overlap)), >= 1."""
    dims = len(image)
    if not isinstance(roi_size, int) and len(roi_size) != dims:
        what = f"the window {tuple(roi_size)} has {len(roi_size)} axes and the image {tuple(image)} has {dims}"
        raise UsageError("MS-U141", what, mend=f"give roi_size {dims} numbers, and images as (batch, channel, *space)")
    overlaps = tuple(float(o) for o in ensure_tuple_rep(overlap, dims))
    if not all(0 <= o < 1 for o in overlaps):
        raise UsageError("MS-U141", f"overlap is {overlap}", mend="use at least 0 and less than 1, for example 0.25")
    roi = tuple(int(r) for r in fall_back_tuple(roi_size, tuple(image)))
    intervals = tuple(r if r >= n else max(int(r * (1 - o)), 1) for n, r, o in zip(image, roi, overlaps, strict=True))
    return intervals, roi


def even_starts(size: int, roi: int, step: float) -> tuple[int, ...]:
    """Starts of the fewest windows that are at most `step` voxels (1 at least) apart, evenly spread from end to end."""
    count = ceil((size - roi) / max(step, 1)) + 1
    between = (size - roi) / max(count - 1, 1)
    return tuple(round(between * n) for n in range(count))


def windows_to_cover(extent: int, roi: int, interval: int) -> int:
    """How many windows, `interval` apart, cover `extent` voxels."""
    return 1 if extent <= roi else ceil((extent - roi) / interval) + 1


def by(shape: Sequence[int]) -> str:
    """A shape in words: 96 x 96 x 96."""
    return " x ".join(str(n) for n in shape)


def _axis_to_walk(padded: tuple[int, ...], roi: tuple[int, ...]) -> int:
    """The first axis, unless another keeps a clearly smaller slab open."""
    share = [r / n for n, r in zip(padded, roi, strict=True)]
    best = min(range(len(share)), key=share.__getitem__)
    return best if share[best] <= share[0] * (1 - SAVING_THAT_TURNS) else 0
