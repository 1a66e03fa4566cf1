"""Walk over a volume once or a few times and collect what several samples say of every voxel.

Windows, weights, padding, body box, precision and the ladder of fallbacks are those of `SlidingWindowInferer`: each
sample is blended as a prediction of its own, then turned into probabilities, and these into moments (moments.py).

The ring (blend.py) holds some samples at a time, as many as fit into an eighth of what storing all would take; then the
walk is done again for the next ones. A volume of one batch of windows is computed once and holds one sample at a time.
Where dropout stands before the last 1x1x1 convolution only, what it receives is blended instead, and all samples are
one matrix product with the finished slab.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor, nn

from medseg.errors import UsageError
from medseg.inferers.memory import Placement, with_fallbacks
from medseg.inferers.moments import PIECE, Moments, Uncertainty
from medseg.inferers.precision import choose_precision, network_device, network_dtype, replica
from medseg.inferers.second_look import LOCATED, second_look
from medseg.inferers.sinks import check_classes
from medseg.inferers.sliding import SlidingWindowInferer, padded
from medseg.inferers.stream import stream

if TYPE_CHECKING:
    from medseg.inferers.memory import Event
    from medseg.inferers.replay import LinearHead
    from medseg.inferers.sampler import Sampler
    from medseg.inferers.windows import WindowGrid

# The ring may always take so much; beyond it, this share of what storing all samples would.
RING_BYTES = 2**28
RING_SHARE = 8
# Labels of a sample are counted as bytes.
MOST_CLASSES = 256


class UncertainInferer:
    """Segment with several samples and say where they disagree.

    Args:
        inferer: window shape, overlap, precision and regions; its `output` is not looked at.
        temperature: the samples' logits are divided by it.
        variance: return the variance of each channel too.
        keep: return the labels of each sample too.

    Attributes:
        events: what the last call decided by itself.
    """

    def __init__(
        self,
        inferer: SlidingWindowInferer,
        *,
        temperature: float = 1.0,
        variance: bool = False,
        keep: bool = False,
    ) -> None:
        if not temperature > 0:
            raise UsageError("MS-U145", f"the temperature is {temperature!r}", mend="use a number above 0")
        self.inferer = inferer
        self.temperature = temperature
        self.variance, self.keep = variance, keep
        self.events: list[Event] = []

    @torch.no_grad()
    def __call__(self, image: Tensor, sampler: Sampler) -> Uncertainty:
        """Collect all samples of one image.

        Args:
            image: (1, C, *space), preprocessed.
            sampler: its networks on the device that computes.

        Raises:
            UsageError: MS-U141 more than one image; MS-U142 more than 256 classes; and as `SlidingWindowInferer`.
            MemoryLimitError: MS-M101 where it fits nowhere.
            InputError: MS-U143 where a network returns NaN.
        """
        if image.shape[0] != 1:
            what = f"{image.shape[0]} images at a time"
            raise UsageError("MS-U141", what, mend="give uncertainty one image at a time, (1, C, *space)")
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        settings = self.inferer
        box, self.events = settings.part(plain, sampler.networks)
        located = any(event.code == LOCATED for event in self.events)
        found = self._inside(plain, box, sampler)
        if located and (event := second_look([found.labels[box]], box, plain.shape[2:])) is not None:
            self.events.append(event)
            found = self._inside(plain, tuple(slice(0, n) for n in plain.shape[2:]), sampler)
        return found

    def _inside(self, plain: Tensor, box: tuple[slice, ...], sampler: Sampler) -> Uncertainty:
        """All samples of a box of the image; outside it is background for certain."""
        settings = self.inferer
        grid = settings.grid([s.stop - s.start for s in box])
        network = sampler.networks[0]
        device = network_device(network, plain.device)

        def batch_on(device: torch.device) -> int:
            return settings.batch(grid, network_dtype(network), device)

        return with_fallbacks(
            lambda placement: self._run(plain, box, grid, sampler, placement),
            Placement(batch_on(device), device, device),
            lambda: batch_on(torch.device("cpu")),
            self.events,
            lambda failure: settings.does_not_fit(grid, 1, failure),
        )

    def _run(
        self, image: Tensor, box: tuple[slice, ...], grid: WindowGrid, sampler: Sampler, placement: Placement
    ) -> Uncertainty:
        """One attempt at the whole volume."""
        part = padded(image[(slice(None), slice(None), *box)], grid)
        sampler, dtype = self._precise(part, grid, sampler, placement)
        batch = min(placement.batch, self.inferer.batch(grid, dtype, placement.network))
        return _Walk(self, image.shape[2:], box, grid, sampler, replace(placement, batch=batch)).all(part, dtype)

    def _precise(
        self, part: Tensor, grid: WindowGrid, sampler: Sampler, placement: Placement
    ) -> tuple[Sampler, torch.dtype]:
        """The sampler on networks of the device and the precision that are used: bf16 only where it suits them all."""
        networks: list[nn.Module] = []
        for network in sampler.networks:
            moved = network_device(network, placement.network) != placement.network
            networks.append(replica(network, device=placement.network) if moved else network)
        chosen: list[Any] = []
        said: list[Event] = []
        for network in networks:
            choice, event = choose_precision(
                self.inferer.precision,
                part,
                grid,
                network,
                lambda module, windows: module(windows),
                device=placement.network,
                regions=self.inferer.regions,
            )
            said += [event] if event and event not in said else []
            if choice.network is network:  # one that stays as it is decides for all: windows have one dtype
                chosen, said = networks, [event] if event else []
                break
            chosen.append(choice.network)
        self.events += said
        return sampler.on(chosen), network_dtype(chosen[0])


class _Walk:
    """The passes over one volume: some samples each, or all at once where they share all but a matrix product."""

    def __init__(
        self,
        owner: UncertainInferer,
        space: tuple[int, ...],
        box: tuple[slice, ...],
        grid: WindowGrid,
        sampler: Sampler,
        placement: Placement,
    ) -> None:
        self.owner, self.space, self.box, self.grid = owner, space, box, grid
        self.sampler, self.placement = sampler, placement
        self.one_batch = len(grid) <= placement.batch
        self.moments: Moments | None = None
        self.head: LinearHead | None = None

    def all(self, part: Tensor, dtype: torch.dtype) -> Uncertainty:
        """Walk as often as it takes."""
        done = 0
        while done < self.sampler.count:
            done = self._pass(part, dtype, done)
        assert self.moments is not None
        return self.moments.result()

    def _pass(self, part: Tensor, dtype: torch.dtype, done: int) -> int:
        """One walk with the samples from `done` on; returns how many are done then."""
        count, settings = self.sampler.count, self.owner.inferer
        which = range(done, done)

        def forward(windows: Tensor) -> Tensor:
            nonlocal which
            if not which:  # the first batch of this walk
                if self.moments is None and (head := self.sampler.linear_head(windows)) is not None:
                    self.head, which = head, range(count)
                    return head.features
                first = next(self.sampler.samples(windows, range(done, done + 1), same=done == 0 or self.one_batch))
                which = range(done, min(count, done + self._at_once(first.shape[1])))
                rest = self.sampler.samples(windows, range(done + 1, which.stop), same=True)
                return torch.cat([first, *rest], 1)
            if self.head is not None:
                self.head = self.sampler.linear_head(windows)
                assert self.head is not None
                return self.head.features
            return torch.cat(list(self.sampler.samples(windows, which)), 1)

        def make_sink(channels: int) -> _HeadSink | _GroupSink:
            classes = channels // len(which) if self.head is None else self.head.convolution.out_channels
            if self.moments is None:
                self.moments = self._begin(classes)
            if self.head is None:
                return _GroupSink(self.moments, self.box, which)
            return _HeadSink(self.moments, self.box, self.head, self.sampler.masks(channels))

        def progress(windows: int, of: int) -> None:
            if settings.progress is not None:
                settings.progress(done * of + len(which) * windows, count * of)

        stream(
            part,
            forward,
            self.grid,
            make_sink,
            placement=self.placement,
            dtype=dtype,
            mode=settings.mode,
            progress=progress,
        )
        return which.stop

    def _begin(self, classes: int) -> Moments:
        settings = self.owner.inferer
        if settings.regions is None and classes > MOST_CLASSES:
            what = f"the network returns {classes} classes, and samples are counted for {MOST_CLASSES}"
            raise UsageError("MS-U142", what, mend="predict without --uncertainty")
        check_classes(classes, settings.regions)
        return Moments(
            self.space,
            classes,
            self.sampler.count,
            regions=settings.regions,
            temperature=self.owner.temperature,
            variance=self.owner.variance,
            keep=self.owner.keep,
            device=self.placement.sums,
        )

    def _at_once(self, classes: int) -> int:
        """How many samples the ring holds; one where nothing is gained by more."""
        if self.one_batch:
            return 1
        one = 4 * classes * prod(self.grid.slab)
        stored = 4 * classes * prod(self.grid.image) * self.sampler.count
        return max(1, max(RING_BYTES, stored // RING_SHARE) // one)


class _GroupSink:
    """Slabs of some samples side by side, K channels each."""

    needs_mean = True

    def __init__(self, moments: Moments, box: tuple[slice, ...], which: range) -> None:
        self.moments, self.box, self.which = moments, box, which

    def write(self, item: int, where: tuple[slice, ...], slab: Tensor) -> None:
        """See `Sink.write`."""
        del item
        place = _inside(self.box, where)
        for t, logits in zip(self.which, slab.unflatten(0, (len(self.which), -1)), strict=True):
            self.moments.add(place, logits, t)


class _HeadSink:
    """Slabs of the features before the head: (F, *part) -> all samples by one product with (T K, F)."""

    needs_mean = True

    def __init__(self, moments: Moments, box: tuple[slice, ...], head: LinearHead, masks: Tensor) -> None:
        self.moments, self.box = moments, box
        device = moments.mean.device
        weight = head.convolution.weight.float().flatten(1).to(device)  # (K, F)
        self.weight = (masks.to(device)[:, None, :] * weight).flatten(0, 1)  # (T K, F)
        bias = head.convolution.bias
        self.bias = None if bias is None else bias.float().to(device)

    def write(self, item: int, where: tuple[slice, ...], slab: Tensor) -> None:
        """See `Sink.write`."""
        del item
        place = _inside(self.box, where)
        rows = slab.shape[1]
        step = rows if slab.device.type != "cpu" else max(1, PIECE // max(1, slab[0, :1].numel()))
        for row in range(0, rows, step):
            piece = slab[:, row : row + step]
            here = (slice(place[0].start + row, place[0].start + row + piece.shape[1]), *place[1:])
            logits = (self.weight @ piece.flatten(1)).unflatten(1, piece.shape[1:])
            for t, sample in enumerate(logits.unflatten(0, (self.moments.count, -1))):
                if self.bias is not None:
                    sample += self.bias.reshape(-1, *[1] * (sample.ndim - 1))
                self.moments.add(here, sample, t)


def _inside(box: tuple[slice, ...], where: tuple[slice, ...]) -> tuple[slice, ...]:
    """A place in the body box as a place in the image."""
    return tuple(slice(b.start + w.start, b.start + w.stop) for b, w in zip(box, where, strict=True))
