"""The moving average: ignite's, but that its momentum follows from the iteration."""

from __future__ import annotations

import copy

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler

from medseg.training import MovingAverage


def trained(handler_of, steps=12):
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    handler = handler_of(network)
    momenta = []

    def step(engine, _):
        with torch.no_grad():
            network.weight += torch.randn_like(network.weight)

    engine = Engine(step)
    handler.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: momenta.append(engine.state.ema_momentum))
    engine.run([0] * steps)
    return handler.ema_model.weight, momenta


@pytest.mark.parametrize("warm", [{}, {"momentum_warmup": 0.3, "warmup_iters": 5}])
def test_it_is_the_average_of_ignite(warm):
    ours = trained(lambda network: MovingAverage(network, momentum=0.1, **warm))
    theirs = trained(lambda network: EMAHandler(network, momentum=0.1, **warm))
    assert torch.equal(ours[0], theirs[0])
    assert ours[1] == theirs[1]


def test_a_wrapper_is_looked_through():
    network = torch.nn.Linear(2, 2)
    wrapped = torch.nn.Module()
    wrapped.module = network
    assert MovingAverage(wrapped).model is network
    assert MovingAverage(copy.deepcopy(network)).momentum_at(1) == 0.002
