"""What a volume will cost, before it is paid."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medseg.inferers.windows import WindowGrid

# float32 values that a network of the U-Net family holds at once for each voxel of a window. Measured as the growth of
# the resident memory's peak over one forward pass on a CPU: 44 for MONAI's UNet (16 to 256 channels), which halves the
# resolution in its first layer; 185 for medseg's UNet with 24 channels at full resolution and 239 with 32. The highest
# counts, so that the plan promises too much rather than too little; only an estimate for any other network.
VALUES_PER_VOXEL = 240


@dataclass(frozen=True)
class Plan:
    """An estimate for one volume.

    Args:
        windows: how many windows, over all items.
        batch: windows at a time.
        roi: window shape in voxels.
        slab_bytes: of the ring accumulator.
        output_bytes: of the labels or logits that are returned.
        network_bytes: of the network's intermediate results for one batch of windows; a rule of thumb.
        full_volume_bytes: what blending in a full volume of class scores would have taken, for comparison.
    """

    windows: int
    batch: int
    roi: tuple[int, ...]
    slab_bytes: int
    output_bytes: int
    network_bytes: int
    full_volume_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Estimated peak over what is in memory before: image and weights are not counted."""
        return self.slab_bytes + self.output_bytes + self.network_bytes


def plan_volume(grid: WindowGrid, items: int, channels: int, classes: int, batch: int, *, labels: bool) -> Plan:
    """Estimate the cost of a volume.

    Args:
        grid: the windows.
        items: images in the batch.
        channels: of the images.
        classes: channels of the network's output.
        batch: windows at a time.
        labels: True where labels are streamed, False where logits are kept.
    """
    slab = prod(grid.slab)
    return Plan(
        windows=len(grid) * items,
        batch=batch,
        roi=grid.roi,
        slab_bytes=4 * slab * (classes if labels else classes + 1),
        output_bytes=items * prod(grid.image) * (1 if labels else 4 * classes),
        network_bytes=4 * batch * prod(grid.roi) * (channels + VALUES_PER_VOXEL + classes),
        full_volume_bytes=items * prod(grid.padded) * 4 * (classes + 1),
    )
