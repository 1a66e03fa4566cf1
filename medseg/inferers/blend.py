"""Overlapping windows, blended in a ring that holds only what a window can still change.

The accumulator is one window thick along the walked axis. A window at start s fills planes s .. s + roi - 1; once
the walk has moved on to s', the planes below s' are final: they go to the sink and their places in the ring
(plane modulo roi) are cleared for the planes above. So memory is K x roi x H x W instead of K x D x H x W.

Sums are float32 whatever the input and the network compute in, and what the network returned is never written to.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data.utils import compute_importance_map
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from medseg.inferers.sinks import Sink
    from medseg.inferers.windows import WindowGrid


@lru_cache(maxsize=4)
def importance(roi: tuple[int, ...], mode: str, device: torch.device) -> Tensor:
    """Weight of each voxel of a window, float32; do not write to it.

    MONAI's own ("gaussian": product clamped at 1e-3; "constant"), or nnU-Net's ("nnunet"): a Gaussian of an eighth of the
    window around voxel n // 2, in half precision, where what is lost to 0 takes the smallest weight there is.
    """
    if mode == "nnunet":
        spot = np.zeros(roi)
        spot[tuple(n // 2 for n in roi)] = 1
        weight = torch.from_numpy(gaussian_filter(spot, [n / 8 for n in roi], mode="constant"))
        weight = (10 * weight / weight.max()).half()
        return weight.clamp(min=weight[weight > 0].min()).float().to(device)
    return compute_importance_map(roi, mode=mode, device=device, dtype=torch.float32)


class RingAccumulator:
    """Weighted sums of the windows of one item at a time, handed on slab by slab.

    Args:
        grid: the windows, which must be added in the order of `grid.positions()`.
        weight: (*roi) float32 weight of each voxel of a window, on the accumulator's device.
        classes: channels K of the network's output.
        sink: receives the finished slabs.
    """

    def __init__(self, grid: WindowGrid, weight: Tensor, classes: int, sink: Sink) -> None:
        self.grid = grid
        self.weight = weight
        self.sink = sink
        self.sums = torch.zeros((classes, *grid.slab), dtype=torch.float32, device=weight.device)
        self.weights = torch.zeros(grid.slab, device=weight.device) if sink.needs_mean else None
        self.item = 0
        self.done = 0  # planes of the walked axis that have gone to the sink

    def add(self, item: int, start: tuple[int, ...], logits: Tensor) -> None:
        """Add one window.

        Args:
            item: index in the batch, ascending.
            start: of the window in the padded image.
            logits: (K, *roi) in any floating dtype, on any device.
        """
        if item != self.item:
            self.close()
            self.item, self.done = item, 0
        self._finish(start[self.grid.axis])
        logits = logits.to(self.sums.device)
        for there, here in self._spans(start[self.grid.axis], self.grid.roi[self.grid.axis]):
            place = self._box(start, there)
            own = self._box((0,) * len(start), here)
            weight = self.weight[own]
            _add_weighted(self.sums[(slice(None), *place)], logits[(slice(None), *own)], weight)
            if self.weights is not None:
                self.weights[place] += weight

    def close(self) -> None:
        """Hand on what is left of the present item."""
        self._finish(self.grid.padded[self.grid.axis])

    def _finish(self, stop: int) -> None:
        """Hand the planes from `done` to `stop` of the walked axis to the sink, and clear them."""
        if stop <= self.done:
            return
        axis = self.grid.axis
        for ring, planes in self._spans(self.done, stop - self.done):
            sums = self.sums.narrow(1 + axis, ring.start, ring.stop - ring.start)
            if self.weights is not None:
                weights = self.weights.narrow(axis, ring.start, ring.stop - ring.start)
                sums.div_(weights)
                self._write(sums, self.done + planes.start)
                weights.zero_()
            else:
                self._write(sums, self.done + planes.start)
            sums.zero_()
        self.done = stop

    def _write(self, slab: Tensor, first: int) -> None:
        """Give the sink the part of `slab`, whose first plane is `first` of the padded image, that is no padding."""
        inner: list[slice] = []
        where: list[slice] = []
        for axis, (size, (before, _)) in enumerate(zip(self.grid.image, self.grid.pad, strict=True)):
            offset = first if axis == self.grid.axis else 0
            low = max(offset, before)
            high = min(offset + slab.shape[1 + axis], before + size)
            if high <= low:
                return
            inner.append(slice(low - offset, high - offset))
            where.append(slice(low - before, high - before))
        self.sink.write(self.item, tuple(where), slab[(slice(None), *inner)])

    def _spans(self, start: int, length: int) -> Iterator[tuple[slice, slice]]:
        """`length` planes from `start` as (place in the ring, place among the planes): two spans where it wraps."""
        size = self.grid.roi[self.grid.axis]
        at = start % size
        head = min(length, size - at)
        yield slice(at, at + head), slice(0, head)
        if head < length:
            yield slice(0, length - head), slice(head, length)

    def _box(self, start: tuple[int, ...], along_axis: slice) -> tuple[slice, ...]:
        roi, axis = self.grid.roi, self.grid.axis
        return tuple(along_axis if i == axis else slice(s, s + roi[i]) for i, s in enumerate(start))


def _add_weighted(sums: Tensor, logits: Tensor, weight: Tensor) -> None:
    """Add logits * weight to the sums, in float32.

    On a CPU, half-precision logits are widened channel by channel: a whole window at once would leave the cache.
    """
    if logits.dtype == torch.float32:
        sums.addcmul_(logits, weight)
    elif sums.device.type == "cpu":
        for channel, values in zip(sums, logits, strict=True):
            channel.addcmul_(values.float(), weight)
    else:
        sums.addcmul_(logits.float(), weight)
