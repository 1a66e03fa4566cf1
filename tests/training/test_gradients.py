"""The gradient guard: norms are clipped, bad steps leave every weight as it was, a lost run ends."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from medseg.errors import MedsegError
from medseg.training import GradientGuard


def trainer(gradients, guard_of):
    net = torch.nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    before = net.weight.detach().clone()

    def step(engine, gradient):
        optimizer.zero_grad()
        net.weight.grad = torch.tensor([gradient])
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        optimizer.step()

    engine = Engine(step)
    engine.register_events(*IterationEvents)
    guard = guard_of(net)
    guard.attach(engine)
    engine.run(gradients)
    return guard, (before - net.weight.detach())[0]


def test_small_gradients_pass_and_large_ones_are_scaled():
    _, moved = trainer([[0.3, 0.0, 0.4]], lambda net: GradientGuard(net, max_norm=1.0))
    torch.testing.assert_close(moved, torch.tensor([0.3, 0.0, 0.4]))
    _, moved = trainer([[30.0, 0.0, 40.0]], lambda net: GradientGuard(net, max_norm=1.0))
    torch.testing.assert_close(moved, torch.tensor([0.6, 0.0, 0.8]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_changes_nothing(bad):
    guard, moved = trainer([[bad, 0.0, 1.0], [0.0, 0.5, 0.0]], GradientGuard)
    assert guard.skipped == 1
    torch.testing.assert_close(moved, torch.tensor([0.0, 0.5, 0.0]))


def test_a_run_that_only_skips_is_ended():
    with pytest.raises(MedsegError, match="MS-T107"):
        trainer([[float("nan"), 0.0, 0.0]] * 3, lambda net: GradientGuard(net, patience=3))
