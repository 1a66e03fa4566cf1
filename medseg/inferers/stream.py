"""The loop: windows in, finished slabs out.

This is what every inferer that walks over a volume shares; what is kept of the blended outputs is the sink's choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medseg.inferers.blend import RingAccumulator, importance
from medseg.inferers.outputs import full_resolution

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from medseg.inferers.memory import Placement
    from medseg.inferers.sinks import Sink
    from medseg.inferers.windows import WindowGrid


def stream(
    image: Tensor,
    forward: Callable[[Tensor], object],
    grid: WindowGrid,
    make_sink: Callable[[int], Sink],
    *,
    placement: Placement,
    dtype: torch.dtype,
    mode: str = "gaussian",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Run a network over all windows, blend the outputs and hand finished slabs to a sink.

    Args:
        image: (B, C, *grid.padded) image, padded, on any device and in any dtype.
        forward: the network; gets (n, C, *roi) windows of its own to use as it likes.
        grid: the windows.
        make_sink: called once with the number of channels K the network returns.
        placement: windows at a time, and the devices of the network and of the sums.
        dtype: what the windows are converted to.
        mode: "gaussian" or "constant" weights.
        progress: called with (windows done, windows in all) after each batch.
    """
    work = [(item, start) for item in range(image.shape[0]) for start in grid.positions()]
    ring: RingAccumulator | None = None
    for first in range(0, len(work), placement.batch):
        batch = work[first : first + placement.batch]
        windows = gather(image, batch, grid.roi, placement.network, dtype)
        outputs = full_resolution(forward(windows), windows)
        if ring is None:
            weight = importance(grid.roi, mode, placement.sums)
            ring = RingAccumulator(grid, weight, outputs.shape[1], make_sink(outputs.shape[1]))
        for row, (item, start) in enumerate(batch):
            ring.add(item, start, outputs[row])
        del windows, outputs  # or two batches of outputs would be alive during the next forward
        if progress is not None:
            progress(first + len(batch), len(work))
    if ring is not None:
        ring.close()


def gather(
    image: Tensor,
    batch: list[tuple[int, tuple[int, ...]]],
    roi: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """The windows of a batch as one fresh, contiguous tensor (n, C, *roi)."""
    windows = torch.empty((len(batch), image.shape[1], *roi), dtype=dtype, device=device)
    for row, (item, start) in enumerate(batch):
        windows[row] = image[(item, slice(None), *(slice(s, s + r) for s, r in zip(start, roi, strict=True)))]
    return windows
