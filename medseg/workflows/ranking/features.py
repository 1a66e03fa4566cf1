"""What a network sees in a case, as one vector: its deepest features, averaged over the volume.

The deepest activation is the one with the fewest voxels, but more than one: squeeze-and-excitation gates and global
pooling end in a single voxel. Of several equally small ones it is that with the most channels, and the last of these: in
a U-Net the bottleneck behind its activation. It is found by hooks, so any network of 3D convolutions will do, and the
network is run no further than to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medseg.inferers.body import what_to_segment
from medseg.inferers.precision import network_device, network_dtype
from medseg.inferers.sliding import padded
from medseg.inferers.stream import gather
from medseg.inferers.windows import window_grid

if TYPE_CHECKING:
    import numpy as np

    from medseg.inferers.sliding import SlidingWindowInferer


def case_features(image: Tensor, network: nn.Module, inferer: SlidingWindowInferer) -> np.ndarray:
    """Mean and standard deviation of each channel of the deepest activation, over all windows side by side.

    Windows overlap as little as they can: each voxel need be seen once only.

    Args:
        image: (1, C, *space), preprocessed.
        network: in eval mode, without dropout.
        inferer: its window shape and body threshold.

    Returns:
        (2 F,) float64: F means, then F standard deviations.
    """
    box, _ = what_to_segment(image, inferer.body_threshold, inferer.roi_size, 0.0)
    grid = window_grid([s.stop - s.start for s in box], inferer.roi_size, 0.0)
    part = padded(image[(slice(None), slice(None), *box)], grid)
    device, dtype = network_device(network, image.device), network_dtype(network)
    place: Place | None = None
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    with torch.no_grad():
        for start in grid.positions():
            window = gather(part, [(0, start)], grid.roi, device, dtype)
            if place is None:
                place = deepest(network, window)
            seen = activation(network, place, window)[0].flatten(1).cpu().double()
            count += seen.shape[1]
            total, squares = total + seen.sum(1), squares + seen.square().sum(1)
    mean = total / count
    spread = (squares / count - mean.square()).clamp_(min=0.0).sqrt_()
    return torch.cat([mean, spread]).numpy()


@dataclass(frozen=True, eq=False)
class Place:
    """Where a network's features are taken.

    Args:
        module: that returns them.
        call: which of its calls in one run, from 1: an activation may be used at several levels.
    """

    module: nn.Module
    call: int = 1


def deepest(network: nn.Module, window: Tensor) -> Place:
    """The smallest activation of more than one voxel, of equals the one with the most channels, of equals the last.

    Args:
        network: any; what itself returns is taken where none of its modules returns (n, F, *space).
        window: (1, C, *roi).
    """
    calls: Counter[nn.Module] = Counter()
    best, found = (-inf, 0), Place(network)

    def look(module: nn.Module, args: object, output: object) -> None:
        nonlocal best, found
        del args
        calls[module] += 1
        tensor = _tensor(output)
        if tensor is None or (voxels := prod(tensor.shape[2:])) < 2:
            return
        if (here := (-voxels, tensor.shape[1])) >= best:
            best, found = here, Place(module, calls[module])

    hooks = [module.register_forward_hook(look) for module in network.modules()]
    try:
        network(window)
    finally:
        for hook in hooks:
            hook.remove()
    return found


class _Reached(Exception):  # noqa: N818  no error: it ends a run that has served its purpose
    """The wanted activation is there."""


def activation(network: nn.Module, place: Place, window: Tensor) -> Tensor:
    """(1, F, *space) at a place; the network runs no further than to it.

    Raises:
        ValueError: the network does not come by.
    """
    found: list[Tensor | None] = []

    def take(module: nn.Module, args: object, output: object) -> None:
        del module, args
        found.append(_tensor(output))
        if len(found) == place.call:
            raise _Reached

    hook = place.module.register_forward_hook(take)
    try:
        network(window)
    except _Reached:
        pass
    finally:
        hook.remove()
    if len(found) < place.call or (tensor := found[-1]) is None:
        msg = "the network does not give the activation that it gave before"
        raise ValueError(msg)
    return tensor


def _tensor(output: object) -> Tensor | None:
    """The last 3D feature map of what a module returned; None where there is none."""
    if isinstance(output, Tensor):
        return output if output.ndim == 5 else None
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, Sequence) else ()
    if isinstance(output, str):
        return None
    return next((tensor for part in reversed(list(parts)) if (tensor := _tensor(part)) is not None), None)
