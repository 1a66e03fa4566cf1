"""Does an exported file give torch's labels: compared on real patches, as they are, two at a time, and in another size."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medseg.errors import BundleError
from medseg.inferers.lone import LoneWindow
from medseg.inferers.outputs import full_resolution
from medseg.inferers.precision import labels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Shares of voxels, and of voxels that either calls foreground, with equal labels from which a file is kept. fp32 sums in
#: another order move labels only where two classes are equal to 6 digits.
MIN_LABELS, MIN_FOREGROUND = 0.9999, 0.999
#: Largest difference of a logit, in shares of the largest logit: also where no structure is in the patches.
MAX_DIFFERENCE = 1e-3
TIMED = 3


@dataclass(frozen=True)
class Checked:
    """What comparing an engine with torch found.

    Args:
        patches: how many batches of patches.
        voxels: in all of them.
        foreground: voxels that either calls foreground.
        labels_equal: share of all voxels with equal labels.
        foreground_equal: share of the foreground with equal labels; 1 where there is none.
        largest_difference: of a logit.
        largest_logit: of torch's, absolute.
        ms: of one patch, the median of a few.
    """

    patches: int
    voxels: int
    foreground: int
    labels_equal: float
    foreground_equal: float
    largest_difference: float
    largest_logit: float
    ms: float

    @property
    def suffices(self) -> bool:
        """Whether the file may be used in place of the network."""
        alike = self.largest_difference <= MAX_DIFFERENCE * max(self.largest_logit, 1.0)
        return alike and self.labels_equal >= MIN_LABELS and self.foreground_equal >= MIN_FOREGROUND


def batches_of(patches: Sequence[Tensor], shape: Sequence[int | None]) -> list[Tensor]:
    """What to compare: (n, C, *space) each.

    Args:
        patches: (C, *roi) each, at least one.
        shape: (N, C, *space) of what the export takes, None where any size will do.

    Returns:
        Each patch alone; where the batch is free, two at once; where space is free, one beside its mirror image, twice as
        long along each axis in turn.
    """
    found = [patch[None] for patch in patches]
    if shape[0] is None:
        found.append(torch.stack([patches[0], patches[-1]]))
        found += [
            torch.cat([patches[0], patches[0].flip(axis)], axis)[None]
            for axis in range(1, patches[0].ndim)
            if shape[axis + 1] is None
        ]
    return [batch.contiguous() for batch in found]


@torch.no_grad()
def torch_outputs(network: Callable[[Tensor], Any], batches: Sequence[Tensor]) -> list[Tensor]:
    """The network's own logits of each batch, in fp32 as `SlidingWindowInferer` computes them."""
    outputs = []
    for batch in batches:
        with LoneWindow():
            outputs.append(full_resolution(network(batch.clone()), batch))
    return outputs


@torch.no_grad()
def compare(
    engine: Callable[[Tensor], Any], batches: Sequence[Tensor], wanted: Sequence[Tensor], regions: Sequence[int] | None
) -> Checked:
    """Compare an engine with torch.

    Args:
        engine: from (n, C, *space) to (n, K, *space).
        batches: what both compute.
        wanted: torch's logits of each.
        regions: label values of sigmoid channels; None for classes.
    """
    voxels = same = foreground = same_foreground = 0
    difference = largest = 0.0
    for batch, logits in zip(batches, wanted, strict=True):
        given = full_resolution(engine(batch.clone()), batch).float()
        largest = max(largest, float(logits.abs().max()))
        gap = (given - logits).abs().max()
        difference = max(difference, float(gap) if torch.isfinite(gap) else float("inf"))
        for one, other in zip(logits, given.nan_to_num(), strict=True):
            a, b = labels_of(one, regions), labels_of(other, regions)
            either = (a > 0) | (b > 0)
            voxels, same = voxels + a.numel(), same + int((a == b).sum())
            foreground, same_foreground = (
                foreground + int(either.sum()),
                same_foreground + int(((a == b) & either).sum()),
            )
    return Checked(
        patches=len(batches),
        voxels=voxels,
        foreground=foreground,
        labels_equal=same / max(voxels, 1),
        foreground_equal=same_foreground / foreground if foreground else 1.0,
        largest_difference=difference,
        largest_logit=largest,
        ms=milliseconds(engine, batches[0]),
    )


@torch.no_grad()
def milliseconds(engine: Callable[[Tensor], Any], batch: Tensor) -> float:
    """Of one run, the median of a few behind one to warm up."""
    seconds = []
    for _ in range(1 + TIMED):
        start = time.perf_counter()
        engine(batch.clone())
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[1:])


def require(checked: Checked, file: str) -> None:
    """Refuse a file that does not give torch's labels.

    Raises:
        BundleError: MS-B125 with what was found.
    """
    if not checked.suffices:
        raise BundleError(
            "MS-B125",
            f"it does not give torch's labels and is not kept: {checked.labels_equal:.4%} of voxels agree (wanted: "
            f"{MIN_LABELS:.2%}), {checked.foreground_equal:.3%} of the foreground ({MIN_FOREGROUND:.1%}), and logits "
            f"differ by up to {checked.largest_difference:.3g}",
            file=file,
            mend="predict with --engine torch; other versions of onnxruntime or openvino may translate the network better",
        )
