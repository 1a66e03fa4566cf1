"""The U-Net's form for a patch: how deep, where it strides, where its kernels are flat (nnU-Net's rule).

Going down, an axis is halved while its half keeps at least four voxels, and while its voxels are less than twice the
finest of that level: thick slices wait until the pixels have become as coarse. Until then kernels do not reach across
slices (1 instead of 3).

Worked example: 40 x 56 x 40 voxels of 1 mm. 40, 20, 10, 5 and 56, 28, 14, 7: three halvings, four levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

Triple = tuple[int, int, int]

#: An axis keeps so many voxels at the bottom.
LEAST = 4
#: Levels at most, and channels of a level relative to the first.
DEEPEST, WIDEST = 6, 8


@dataclass(frozen=True)
class Topology:
    """Of `medseg.networks.UNet`.

    Args:
        features: channels of each level, finest first.
        strides: into each level.
        kernels: of each level.
    """

    features: tuple[int, ...]
    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]

    @property
    def divisor(self) -> Triple:
        """A patch's size is a multiple of this."""
        return _product(self.strides)

    @property
    def isotropic(self) -> bool:
        """Whether the network's own defaults say the same."""
        plain = all(kernel == (3, 3, 3) for kernel in self.kernels)
        return plain and all(stride == (2, 2, 2) for stride in self.strides[1:])

    def shortened(self, levels: int) -> Topology:
        """Its finest levels."""
        return Topology(self.features[:levels], self.strides[:levels], self.kernels[:levels])

    def cumulative(self) -> list[Triple]:
        """Voxels that a cell of each level spans."""
        return [_product(self.strides[: n + 1]) for n in range(len(self.strides))]

    def arguments(self) -> dict[str, Any]:
        """As they stand in `network_def`; strides and kernels only where they are not the defaults."""
        out: dict[str, Any] = {"features": list(self.features)}
        if not self.isotropic:
            out["strides"] = [list(stride) for stride in self.strides]
            out["kernel_sizes"] = [list(kernel) for kernel in self.kernels]
        return out


def topology_of(size: Sequence[int], spacing_mm: Sequence[float], width: int) -> Topology:
    """The form for a patch of this size, before it is rounded to a multiple of `divisor`.

    Args:
        size: voxels of the patch.
        spacing_mm: of the network's grid.
        width: channels of the finest level.
    """
    now, spacing = [float(n) for n in size], [float(mm) for mm in spacing_mm]
    strides: list[Triple] = [(1, 1, 1)]
    kernels: list[Triple] = [_kernel(spacing)]
    while len(strides) < DEEPEST:
        finest = min(spacing)
        fits = [n / 2 >= LEAST for n in now]
        near = [s < 2 * finest for s in spacing]
        down = [a and b for a, b in zip(fits, near, strict=True)]
        if not any(down):
            down = fits  # the fine axes have come to their end: let the coarse ones follow
        if not any(down):
            break
        stride = (1 + down[0], 1 + down[1], 1 + down[2])
        now = [n / s for n, s in zip(now, stride, strict=True)]
        spacing = [mm * s for mm, s in zip(spacing, stride, strict=True)]
        strides.append(stride)
        kernel = _kernel(spacing)
        kernels.append((max(kernel[0], kernels[-1][0]), max(kernel[1], kernels[-1][1]), max(kernel[2], kernels[-1][2])))
    features = tuple(min(width * 2**level, width * WIDEST) for level in range(len(strides)))
    return Topology(features, tuple(strides), tuple(kernels))


def rounded_up(size: Sequence[float], divisor: Sequence[int]) -> Triple:
    """The least multiples of `divisor` that hold `size`."""
    i, j, k = (max(int(-(-n // d)) * d, d) for n, d in zip(size, divisor, strict=True))
    return i, j, k


def _kernel(spacing: Sequence[float]) -> Triple:
    i, j, k = (3 if mm < 2 * min(spacing) else 1 for mm in spacing)
    return i, j, k


def _product(strides: Sequence[Triple]) -> Triple:
    i = j = k = 1
    for stride in strides:
        i, j, k = i * stride[0], j * stride[1], k * stride[2]
    return i, j, k
