"""Activations computed twice: the same numbers, and less kept."""

from __future__ import annotations

import copy

import pytest
import torch
from ignite.engine import Engine

from medseg.networks import UNet
from medseg.training import MovingAverage, Recompute
from medseg.training.recompute import blocks_of, recompute_blocks


def network() -> UNet:
    torch.manual_seed(0)
    return UNet(1, 2, features=(4, 8, 8), dropout=0.3, deep_supervision=1)


def step(net) -> tuple[list[torch.Tensor], int]:
    """Gradients of one training step, and bytes that autograd keeps for them."""
    kept: dict[int, int] = {}
    weights = {id(parameter) for parameter in net.parameters()}
    pointers = {parameter.data_ptr() for parameter in net.parameters()}

    def pack(tensor):
        if id(tensor) not in weights and tensor.data_ptr() not in pointers:
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    torch.manual_seed(1)
    images = torch.randn(1, 1, 16, 16, 16)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = net.train()(images)
        held = sum(kept.values())
        sum(one.square().mean() for one in outputs).backward()
    return [parameter.grad for parameter in net.parameters()], held


def test_gradients_are_the_same_and_less_is_kept():
    plain = network()
    again = copy.deepcopy(plain)
    assert recompute_blocks(again) == len(blocks_of(plain)) == 5  # three levels, two stages
    wanted, much = step(plain)
    found, little = step(again)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert little < 0.6 * much


def test_names_of_weights_and_predictions_stay():
    plain, again = network(), network()
    recompute_blocks(again)
    assert plain.state_dict().keys() == again.state_dict().keys()
    images = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(plain.eval()(images), again.eval()(images))


@pytest.mark.parametrize("on", [True, False])
def test_the_handler_changes_the_network_but_not_its_moving_average(on):
    net = network()
    average = MovingAverage(net)
    Recompute(net, on).attach(Engine(lambda *_: None))
    assert ("forward" in vars(net.encoder.levels[0])) is on
    assert "forward" not in vars(average.ema_model.encoder.levels[0])
