"""Segment a volume of any size window by window, in memory that does not grow with classes x volume.

The same windows, weights and padding as `monai.inferers.sliding_window_inference`, so fp32 results are MONAI's; but
finished slabs are turned into labels while the walk goes on, in bf16 where that is safe and fast, within the box of
the body, and with a stated fallback when memory runs out.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import psutil
import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import Inferer
from torch import Tensor, nn
from torch.nn.functional import pad

from medseg.errors import MemoryLimitError, UsageError
from medseg.inferers.batching import window_batch
from medseg.inferers.body import what_to_segment
from medseg.inferers.lone import LoneWindow
from medseg.inferers.memory import Event, Placement, with_fallbacks
from medseg.inferers.mirror_mean import mirror_mean
from medseg.inferers.plan import Plan, plan_volume
from medseg.inferers.precision import choose_precision, labels_of, network_device, network_dtype, replica
from medseg.inferers.second_look import LOCATED, second_look
from medseg.inferers.sinks import OUTSIDE_LOGIT, LabelSink, LogitSink, RegionSink, Sink, check_classes
from medseg.inferers.stream import stream
from medseg.inferers.windows import WindowGrid, by, window_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.inferers.locate import Locate
    from medseg.inferers.precision import Call


class SlidingWindowInferer(Inferer):
    """Sliding-window inference that streams labels; a MONAI inferer for any bundle.

    No gradients are recorded, the network is not changed (its state dict stays the same, byte for byte), and results
    are the same on every run.

    Args:
        roi_size: window shape in voxels; a component that is None or not positive takes the image's size.
        overlap: share of a window that the next one covers again, in [0, 1), one for all axes or one per axis.
        sw_batch_size: windows at a time, or "auto": a fixed rule by window size, precision and device (batching.py).
        mode: "gaussian" (MONAI's importance map), "constant", or "nnunet" (its own Gaussian).
        output: "logits" -> (B, K, *space) float32, blended; "labels" -> (B, 1, *space) uint8.
        regions: with "labels": one label value for each channel of a network with sigmoid outputs, painted in order
            where the logit is positive; None: the class with the largest logit, the lowest of equals.
        precision: "fp32" computes as the network is; "bf16" with a bf16 copy; "auto" takes bf16 where the device has
            it and the labels of a few windows agree (precision.py). Sums are float32 in any case.
        body_threshold: crop to the box of voxels above this value, in units of the preprocessed image, before laying
            windows; outside is background. None: off.
        progress: called with (windows done, windows in all); begins again when a fallback restarts the volume.
        spread: windows at even distances, as nnU-Net lays them, instead of MONAI's.
        mirror_axes: spatial axes of the network's windows (0 to 2): logits are the mean over all mirror images along
            these axes, as nnU-Net predicts (mirror_mean.py); () for none.
        locate: says where the structures are (locate.py): windows are laid there alone, and outside is background; where
            that is in doubt, on the whole image. None: off.

    Attributes:
        events: what the last call decided by itself: precision, body box, located box, out-of-memory fallbacks.

    Raises:
        UsageError: MS-U141 to MS-U145 where settings, image or network do not fit together.
    """

    def __init__(
        self,
        roi_size: Sequence[int] | int,
        overlap: Sequence[float] | float = 0.25,
        sw_batch_size: int | Literal["auto"] = "auto",
        mode: Literal["gaussian", "constant", "nnunet"] = "gaussian",
        output: Literal["logits", "labels"] = "logits",
        regions: Sequence[int] | None = None,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        body_threshold: float | None = None,
        progress: Callable[[int, int], None] | None = None,
        *,
        spread: bool = False,
        mirror_axes: Sequence[int] = (),
        locate: Locate | None = None,
    ) -> None:
        super().__init__()
        self.roi_size = roi_size
        self.overlap = overlap
        self.sw_batch_size = sw_batch_size
        self.mode = _one_of("mode", str(mode), ("gaussian", "constant", "nnunet"))
        self.output = _one_of("output", output, ("logits", "labels"))
        self.regions = None if regions is None else tuple(int(v) for v in regions)
        self.precision = _one_of("precision", precision, ("auto", "fp32", "bf16"))
        self.body_threshold = body_threshold
        self.progress = progress
        self.spread = spread
        self.mirror_axes = tuple(mirror_axes)
        self.locate = locate
        self.events: list[Event] = []
        if sw_batch_size != "auto" and (not isinstance(sw_batch_size, int) or sw_batch_size < 1):
            what = f"sw_batch_size is {sw_batch_size!r}"
            raise UsageError("MS-U145", what, mend='use "auto" or a number of windows, 1 or more')
        if self.regions is not None and not all(0 <= v <= 255 for v in self.regions):
            raise UsageError("MS-U145", f"regions is {self.regions}", mend="use label values from 0 to 255")
        if not set(self.mirror_axes) <= {0, 1, 2}:
            raise UsageError("MS-U145", f"mirror_axes is {self.mirror_axes}", mend="name axes from 0 to 2")

    @torch.no_grad()
    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Segment images.

        Args:
            inputs: (B, C, *space), any dtype, on any device; a MetaTensor gives a MetaTensor with its meta data.
            network: module or function from (n, C, *roi) to (n, K, *roi), or a list or dictionary that begins with it.
            *args: passed on to the network.
            **kwargs: passed on to the network.

        Returns:
            (B, K, *space) float32 or (B, 1, *space) uint8, on the device of `inputs` (logits on the CPU where they had
            to be blended there, see `events`).

        Raises:
            MemoryLimitError: MS-M101 where it fits nowhere.
            InputError: MS-U143 where the network returns NaN.
        """
        self.events = []
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        box, self.events = self.part(image, (network,))
        network = mirror_mean(network, self.mirror_axes)

        def call(module: Callable[..., Any], windows: Tensor) -> object:
            return module(windows, *args, **kwargs)

        result = self._inside(image, box, network, call)
        if (event := self._doubted(result, box)) is not None:
            self.events.append(event)
            result = self._inside(image, tuple(slice(0, n) for n in image.shape[2:]), network, call)
        return MetaTensor(result).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else result

    def part(self, image: Tensor, networks: Sequence[Any]) -> tuple[tuple[slice, ...], list[Event]]:
        """The part of an image that windows are laid on, one slice per spatial axis, and what to tell about it.

        Args:
            image: (B, C, *space), preprocessed.
            networks: all that will segment it.
        """
        events = []
        if self.locate is not None:
            box, event = self.locate(image, networks, self.roi_size, self.overlap)
            if box is not None:
                return box, [event]
            events.append(event)
        box, about_body = what_to_segment(image, self.body_threshold, self.roi_size, self.overlap)
        return box, [*events, about_body] if about_body else events

    def _doubted(self, result: Tensor, box: tuple[slice, ...]) -> Event | None:
        """What speaks against a located box, see second_look.py."""
        if not any(event.code == LOCATED for event in self.events):
            return None
        found = [item[(slice(None), *box)] for item in result]
        labels = [item[0] if self.output == "labels" else labels_of(item, self.regions) for item in found]
        return second_look(labels, box, result.shape[2:])

    def _inside(self, image: Tensor, box: tuple[slice, ...], network: Callable[..., Any], call: Call) -> Tensor:
        """The result for the whole image, with windows in a box of it alone."""
        device = network_device(network, image.device)
        grid = self.grid([s.stop - s.start for s in box])

        def batch_on(device: torch.device) -> int:
            return self.batch(grid, network_dtype(network), device)

        return with_fallbacks(
            lambda placement: self._run(image, box, grid, network, placement, call),
            Placement(batch_on(device), device, device),
            lambda: batch_on(torch.device("cpu")),
            self.events,
            lambda failure: self.does_not_fit(grid, image.shape[0], failure),
        )

    def plan(
        self, shape: Sequence[int], channels: int, classes: int, device: str | torch.device = "cpu", items: int = 1
    ) -> Plan:
        """Estimate windows and peak memory of the whole image, nothing cropped, in the network's own precision.

        Args:
            shape: spatial shape of the preprocessed image.
            channels: of the image.
            classes: channels of the network's output.
            device: where the network will run.
            items: images in the batch.
        """
        grid = self.grid(shape)
        batch = min(self.batch(grid, torch.float32, torch.device(device)), len(grid) * items)
        return plan_volume(grid, items, channels, classes, batch, labels=self.output == "labels")

    def _run(
        self,
        image: Tensor,
        box: tuple[slice, ...],
        grid: WindowGrid,
        network: Callable[..., Any],
        placement: Placement,
        call: Call,
    ) -> Tensor:
        """One attempt at the whole volume."""
        part = padded(image[(slice(None), slice(None), *box)], grid)
        if isinstance(network, nn.Module) and network_device(network, placement.network) != placement.network:
            network = replica(network, device=placement.network)
        chosen, event = choose_precision(
            self.precision, part, grid, network, call, device=placement.network, regions=self.regions
        )
        self.events += [event] if event else []
        batch = min(placement.batch, self.batch(grid, chosen.dtype, placement.network))
        results: list[Tensor] = []

        def make_sink(classes: int) -> Sink:
            results.append(self._allocate(image, classes, placement))
            return self._sink(results[0], box, classes)

        def forward(windows: Tensor) -> object:
            with torch.autocast(placement.network.type, torch.bfloat16) if chosen.autocast else LoneWindow():
                return call(chosen.network, windows)

        stream(
            part,
            forward,
            grid,
            make_sink,
            placement=replace(placement, batch=batch),
            dtype=chosen.dtype,
            mode=self.mode,
            progress=self.progress,
        )
        return results[0].to(image.device) if self.output == "labels" else results[0]

    def grid(self, shape: Sequence[int]) -> WindowGrid:
        """The windows over an image of this spatial shape."""
        return window_grid(shape, self.roi_size, self.overlap, spread=self.spread)

    def batch(self, grid: WindowGrid, dtype: torch.dtype, device: torch.device) -> int:
        """Windows at a time."""
        return window_batch(grid.roi, dtype, device) if self.sw_batch_size == "auto" else int(self.sw_batch_size)

    def _allocate(self, image: Tensor, classes: int, placement: Placement) -> Tensor:
        """The result, background everywhere."""
        items, space = image.shape[0], image.shape[2:]
        # Labels are small and kept where they are made; logits follow the sums once these had to leave the GPU.
        device = image.device if placement.sums == placement.network else placement.sums
        if self.output == "labels":
            return torch.zeros((items, 1, *space), dtype=torch.uint8, device=device)
        result = torch.empty((items, classes, *space), dtype=torch.float32, device=device)
        if self.body_threshold is not None or self.locate is not None:
            result.fill_(-OUTSIDE_LOGIT)
            if self.regions is None and classes > 1:
                result[:, 0] = OUTSIDE_LOGIT
        return result

    def _sink(self, result: Tensor, box: tuple[slice, ...], classes: int) -> Sink:
        if self.output == "logits":
            return LogitSink(result[(slice(None), slice(None), *box)])
        check_classes(classes, self.regions)
        target = result[(slice(None), 0, *box)]
        return LabelSink(target) if self.regions is None else RegionSink(target, self.regions)

    def does_not_fit(self, grid: WindowGrid, items: int, failure: str) -> MemoryLimitError:
        """The last error, with the numbers that a user can change."""
        slab = 4 * prod(grid.slab) / 2**20
        free = psutil.virtual_memory().available / 2**20
        what = (
            f"out of memory also with one window of {by(grid.roi)} voxels at a time on the CPU ({failure}); "
            f"blending takes {slab:.0f} MiB for each class, {free:.0f} MiB of memory are free"
        )
        mend = "close other programs or use a machine with more memory"
        if self.output == "logits":
            logits = 4 * items * prod(grid.image) / 2**20
            mend = f'use output="labels", which saves {logits:.0f} MiB for each class, or {mend}'
        return MemoryLimitError("MS-M101", what, mend=mend)


def padded(image: Tensor, grid: WindowGrid) -> Tensor:
    """The image with zeros around it where it is smaller than a window, as MONAI pads."""
    if not any(before or after for before, after in grid.pad):
        return image
    return pad(image, [n for before_after in reversed(grid.pad) for n in before_after])


def _one_of(name: str, value: Any, accepted: tuple[str, ...]) -> Any:
    if value not in accepted:
        raise UsageError("MS-U145", f"{name} is {value!r}", mend=f"use one of {', '.join(accepted)}")
    return value
