"""Several samples of the instances of a whole volume: each is tiled and united as a prediction of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.data.meta_tensor import MetaTensor

from medseg.inferers.instances.merge import at_least, merge
from medseg.inferers.instances.stuff import stuff_map
from medseg.inferers.instances.tiles import sampled_views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from medseg.inferers.instances.found import Instances
    from medseg.inferers.instances.inferer import InstanceInferer


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
    over = inferer.tiles_over(plain.shape[2:], network)
    done = 0

    def drawn(tile: Tensor) -> Sequence[Instances]:
        nonlocal done
        with inferer.computing(tile):
            found = source(tile)
        done += 1
        if inferer.progress is not None:
            inferer.progress(done, len(over))
        return found

    samples = sampled_views(plain, drawn, over)
    inferer.stuff = stuff_map(samples[0], plain.shape[2:])
    return [at_least(merge(views), inferer.min_score) for views in samples]
