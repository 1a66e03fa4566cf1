"""How much the network sees at a time, how wide it is, and how many patches make a batch.

The patch begins as the median scan on the network's grid. Where that is too much for the memory (`memory`) or for the time
(`TIMELY`: a machine with little memory is no fast one), the axis that reaches furthest in mm is shortened, again and again,
so that the patch becomes a cube in space. The network's form follows the patch (`topology`).

How wide? A network wider than the data can fill learns slower and no more: on 160 crops of the hippocampus (10 million
voxels) 0.8 million weights reached the Dice of 3.2 million (0.884 and 0.880) in a quarter of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import UsageError
from medseg.training.plan.choice import Choice, voxels
from medseg.training.plan.memory import PROCESS, STEP_SHARE, step_bytes
from medseg.training.plan.topology import Topology, Triple, rounded_up, topology_of

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Budget in bytes -> voxels of a patch at most.
TIMELY = ((12e9, 96**3), (30e9, 128**3), (float("inf"), 160**3))
#: Training voxels on the network's grid -> channels of the finest level.
WIDTHS = ((3e7, 16), (3e8, 24), (float("inf"), 32))
#: More structures than this are not told apart by the narrowest network.
_MANY = 20
#: A patch smaller than this with two in a batch becomes a larger one with a batch of one.
_SMALL = 48**3
BATCH = 2


@dataclass(frozen=True)
class Patch:
    """What the network sees.

    Args:
        size: voxels.
        batch: patches at a time.
        topology: of the network.
        bytes: estimate for one step, the process not counted.
        choices: what and why.
    """

    size: Triple
    batch: int
    topology: Topology
    bytes: float
    choices: tuple[Choice, ...]


def patch_for(
    sizes: np.ndarray,
    spacing_mm: Sequence[float],
    channels: int,
    outputs: int,
    budget: float,
    share: float = STEP_SHARE,
) -> Patch:
    """The patch, batch and network for a dataset.

    Args:
        sizes: (N, 3) voxels of every case on the network's grid.
        spacing_mm: of that grid.
        channels: of the image.
        outputs: channels of the logits.
        budget: bytes of memory for the whole training.
        share: of the budget that a step may take; less where a measurement showed that the estimate is too low.

    Raises:
        UsageError: MS-T151 not even the smallest patch fits.
    """
    median = np.median(sizes, axis=0)
    total = float(np.prod(sizes, axis=1).sum())
    width = next(width for most, width in WIDTHS if total < most)
    if outputs > _MANY:
        width = max(width, WIDTHS[1][1])
    timely = next(most for limit, most in TIMELY if budget <= limit)
    allowed = share * max(budget - PROCESS, 0.0)
    for batch in (BATCH, 1):
        found = _fitting(median, spacing_mm, width, batch, channels, outputs, timely, allowed)
        if found is not None and (batch == 1 or prod(found[0]) >= min(_SMALL, float(np.prod(median)))):
            size, topology, step = found
            choices = _said(median, size, topology, batch, step, width, total, budget, timely)
            return Patch(size, batch, topology, step, choices)
    raise UsageError(
        "MS-T151", f"{budget / 1e9:.3g} GB hold no training step, however small", mend="give more, such as --memory 8GB"
    )


def _fitting(
    median: np.ndarray,
    spacing_mm: Sequence[float],
    width: int,
    batch: int,
    channels: int,
    outputs: int,
    timely: int,
    allowed: float,
) -> tuple[Triple, Topology, float] | None:
    size = median.astype(float).copy()
    while size.max() >= 8:
        topology = topology_of([max(round(n), 1) for n in size], spacing_mm, width)
        whole = rounded_up(size.tolist(), topology.divisor)
        step = step_bytes(topology, whole, batch, channels, outputs)
        if step <= allowed and prod(whole) <= max(timely, prod(topology.divisor)):
            return whole, topology, step
        longest = int(np.argmax(size * np.asarray(spacing_mm)))
        size[longest] *= 0.95
    return None


def _said(
    median: np.ndarray,
    size: Triple,
    topology: Topology,
    batch: int,
    step: float,
    width: int,
    total: float,
    budget: float,
    timely: int,
) -> tuple[Choice, ...]:
    whole = all(n >= m for n, m in zip(size, median, strict=True))
    why = f"the median scan is {voxels(median)} voxels on the network's grid"
    if whole:
        why += ", and fits whole"
    else:
        why += f"; shortened to fit {STEP_SHARE:.0%} of {budget / 1e9:.3g} GB and {timely} voxels, which bound the time of a step"
    flat = sum(kernel != (3, 3, 3) for kernel in topology.kernels)
    form = f"{len(topology.features)} levels of {', '.join(map(str, topology.features))} channels"
    how = f"halved along each axis while at least 4 voxels are left and its voxels are not twice the finest ones; {flat} levels"
    how += f" have flat kernels; {width} channels to begin with, for {total / 1e6:.3g} million training voxels"
    return (
        Choice("patch", f"{voxels(size)} voxels", why),
        Choice("network", f"U-Net, {form}", how),
        Choice("batch", str(batch), f"a step is estimated to take {step / 1e9:.2g} GB beyond the process"),
    )
