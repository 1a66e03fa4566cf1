"""Monte Carlo dropout of a network that finds instances: several samples of a tile.

Sample t is one and the same network in every tile, as in `medseg.inferers.McDropout`. What finishes before the first
dropout is computed once a tile: with dropout in the heads alone that is the encoder, the pyramid, the proposals and all
of the box head but its last layers, so ten samples take far less than ten passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.inferers.instances.of_network import instances_of

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.inferers.dropout import McDropout
    from medseg.inferers.instances.found import Instances


@dataclass(frozen=True, eq=False)
class Dropped:
    """A network of T samples, see `tiles.sampled_views`.

    Args:
        sampler: of a network that returns `Detections` for each image.
        iou: masks of a class that overlap more are one object.
        iom: the same for intersection over the smaller one.
    """

    sampler: McDropout
    iou: float | None = 0.3
    iom: float | None = 0.6

    def __call__(self, tile: Tensor) -> list[Instances]:
        """(1, C, d, h, w) -> for each sample the instances in the tile's voxels."""
        outputs = self.sampler.outputs(tile, range(self.sampler.count))
        return [instances_of(output[0], tile.shape[2:], iou=self.iou, iom=self.iom) for output in outputs]
