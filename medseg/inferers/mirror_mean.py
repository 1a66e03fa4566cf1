"""A network that answers with the mean of its logits over mirror images, as nnU-Net predicts by default.

With axes (0, 2) these are the image itself and the images turned around along 0, along 2, and along both. It is one
prediction: where the answers disagree is not kept (`Mirrored` keeps it), and no labels change sides, since nnU-Net only
allows axes with which it was trained.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from medseg.inferers.outputs import full_resolution

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def mirror_mean(network: Callable[..., Any], axes: Sequence[int]) -> Callable[..., Any]:
    """The network itself without axes; else a module (for a module) or function that gives the mean."""
    if not axes:
        return network
    return MirrorMean(network, axes) if isinstance(network, nn.Module) else _function(network, axes)


class MirrorMean(nn.Module):
    """See the file's docstring.

    Args:
        network: from (n, C, *roi) to (n, K, *roi), or a list or dictionary that begins with it.
        axes: spatial axes, 0 for the first.
    """

    def __init__(self, network: nn.Module, axes: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.axes = tuple(axes)
        self.train(network.training)

    def forward(self, windows: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The mean of the logits over all mirror images, (n, K, *roi)."""
        return _mean(self.network, windows, self.axes, args, kwargs)


def _function(network: Callable[..., Any], axes: Sequence[int]) -> Callable[..., Tensor]:
    return lambda windows, *args, **kwargs: _mean(network, windows, axes, args, kwargs)


def _mean(
    network: Callable[..., Any], windows: Tensor, axes: Sequence[int], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    several = [turned for n in range(1, len(axes) + 1) for turned in combinations([2 + axis for axis in axes], n)]
    # The copies keep the windows as they are, also for a network that writes into its input.
    total = full_resolution(network(windows.clone(), *args, **kwargs), windows).clone()
    for turned in several:
        total += full_resolution(network(windows.flip(turned), *args, **kwargs), windows).flip(turned)
    return total / (1 + len(several))
