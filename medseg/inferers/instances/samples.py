"""Instances of a whole volume, once or in several samples: tiles find them, and a tile around each may look again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.data.meta_tensor import MetaTensor

from medseg.inferers.instances.centred import centred, places
from medseg.inferers.instances.merge import at_least, merge
from medseg.inferers.instances.stuff import stuff_map
from medseg.inferers.instances.tiles import block, in_volume, sampled_views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from medseg.inferers.instances.found import Instances
    from medseg.inferers.instances.inferer import InstanceInferer
    from medseg.inferers.instances.tiles import Tile

# Of `min_score`: what tiles saw with less is not looked at again, since it would hardly be believed then.
WORTH_A_LOOK = 0.5


@torch.no_grad()
def samples_of(
    image: Tensor, inferer: InstanceInferer, source: Callable[[Tensor], Sequence[Instances]], network: nn.Module
) -> list[Instances]:
    """T sets of instances of one image (1, C, D, H, W), each by falling score and cut at the inferer's `min_score`.

    The inferer's `stuff` is that of the first sample: of mirrors and ensembles the image as it is and the first member; of
    Monte Carlo dropout in the heads of boxes and masks, the network's own.

    Args:
        image: preprocessed, on the device that computes.
        inferer: tiles, precision and thresholds; its `flips` are not looked at, each sample is one opinion.
        source: the samples of a tile (1, C, d, h, w): `Dropped`, or `Each` of several networks.
        network: whose stride the tiles keep to.
    """
    plain = image.as_tensor() if isinstance(image, MetaTensor) else image
    shape = plain.shape[2:]
    over = inferer.tiles_over(shape, network)
    done, total = 0, len(over)

    def drawn(tile: Tensor) -> Sequence[Instances]:
        nonlocal done
        with inferer.computing(tile):
            found = source(tile)
        done += 1
        if inferer.progress is not None:
            inferer.progress(done, total)
        return found

    samples = sampled_views(plain, drawn, over)
    inferer.stuff = stuff_map(samples[0], shape)
    found = [merge(views) for views in samples]
    if inferer.recentre is not None and len(over) > 1:
        size, stride = inferer.roi_size or shape, getattr(network, "divisor", (1, 1, 1))
        found = [at_least(one, WORTH_A_LOOK * inferer.min_score) for one in found]
        around = [places(one, shape, size, stride=stride, step=inferer.recentre) for one in found]
        seen: dict[Tile, list[Instances]] = {}

        def look(tile: Tile) -> list[Instances]:
            if tile not in seen:
                seen[tile] = [in_volume(one, tile, shape) for one in drawn(block(plain, tile))]
            return seen[tile]

        total += len({tile for row in around for tile in row})
        rows = zip(found, around, strict=True)
        found = [centred(one, row, lambda tile, t=t: look(tile)[t]) for t, (one, row) in enumerate(rows)]
    return [at_least(one, inferer.min_score) for one in found]
