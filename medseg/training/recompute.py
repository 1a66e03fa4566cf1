"""Less memory for more time: activations inside blocks are computed again in the backward pass (Chen et al., 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from ignite.engine import Engine


class Recompute:
    """A MONAI handler that makes a network keep only what passes between its blocks while it trains.

    Blocks are the members of its module lists with more than one layer of weights: the levels of an encoder, the stages
    of a decoder. Dropout draws the same channels both times, so nothing that is learnt changes.

    Args:
        network: its blocks are changed in place, its weights and their names stay.
        on: false: nothing is done.
    """

    def __init__(self, network: nn.Module, on: bool = True) -> None:
        self.network = network
        self.on = on

    def attach(self, engine: Engine) -> None:
        """Change the network now: what was copied from it before (the moving average) stays as it is."""
        del engine
        if self.on:
            recompute_blocks(self.network)


def recompute_blocks(network: nn.Module) -> int:
    """Change the blocks of a network; returns how many there are."""
    blocks = blocks_of(network)
    for block in blocks:
        block.forward = _again(block.forward)
    return len(blocks)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Members of module lists with more than one layer of weights, outermost ones only."""
    found: list[nn.Module] = []
    for child in network.children():
        if isinstance(child, nn.ModuleList):
            found += [one for one in child if _layers(one) > 1]
        else:
            found += blocks_of(child)
    return found


def _layers(module: nn.Module) -> int:
    return sum(any(True for _ in one.parameters(recurse=False)) for one in module.modules())


def _again(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run
