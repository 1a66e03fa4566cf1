"""Low resolution: an image sampled on fewer voxels and stretched back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.nn.functional import interpolate

from medseg.transforms.intensity.base import RandIntensityd, pick

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monai.config import KeysCollection
    from torch import Tensor


@dataclass(frozen=True)
class LowResolution:
    """By what each axis is shortened, in (0, 1]: 0.5 keeps every second voxel."""

    zoom: tuple[float, float, float]


def lower_resolution(channel: Tensor, choice: LowResolution) -> Tensor:
    """(D, H, W): nearest voxels down, linear back up, as nnU-Net and MONAI's RandSimulateLowResolution do it."""
    size = [max(1, round(n * zoom)) for n, zoom in zip(channel.shape, choice.zoom, strict=True)]
    small = interpolate(channel[None, None], size, mode="nearest-exact")
    return interpolate(small, tuple(channel.shape), mode="trilinear", align_corners=False)[0, 0]


class RandLowResolutiond(RandIntensityd):
    """Lower the resolution at random: MONAI's `RandSimulateLowResolutiond`, along chosen axes and with a record.

    Args:
        keys: images (C, D, H, W).
        prob: probability of changing an image.
        zoom: smallest and largest factor.
        axes: the axes that are shortened, all alike; thick slices are along one: [2].
        **kwargs: of `RandIntensityd`.
    """

    apply = staticmethod(lower_resolution)

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.25,
        zoom: Sequence[float] = (0.5, 1.0),
        axes: Sequence[int] = (0, 1, 2),
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, prob, **kwargs)
        self.zoom = tuple(zoom)
        self.axes = tuple(axes)

    def draw(self) -> LowResolution:
        """A factor for the axes."""
        zoom = pick(self.R, self.zoom)
        a, b, c = (zoom if axis in self.axes else 1.0 for axis in range(3))
        return LowResolution((a, b, c))
