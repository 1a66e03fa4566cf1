"""FedProx's and SCAFFOLD's corrections against their papers' formulas, with the trainer that medseg uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn

from medseg.federated.corrections import ControlVariates, ProximalPull
from medseg.training.gradients import GradientGuard

RATE = 0.1


def line(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(3, 1)


def trainer_of(network, hooks, *, steps=4, accumulate=1, broken=None):
    """SGD on fixed data; the loss of batch `broken` is NaN."""
    rng = torch.Generator().manual_seed(1)
    data = [
        {"image": torch.randn(2, 3, generator=rng), "label": torch.randn(2, 1, generator=rng)} for _ in range(steps)
    ]
    count = [0]

    def loss(pred, label):
        count[0] += 1
        value = ((pred - label) ** 2).mean()
        return value * torch.nan if count[0] - 1 == broken else value

    trainer = SupervisedTrainer(
        device=torch.device("cpu"), max_epochs=1, train_data_loader=data, network=network,
        optimizer=torch.optim.SGD(network.parameters(), RATE), loss_function=loss, decollate=False,
        train_handlers=[GradientGuard(network, max_norm=1e9)], epoch_length=steps, accumulation_steps=accumulate,
    )  # fmt: skip
    for hook in hooks:
        hook.attach(trainer)
    return trainer, data


def gradient(weight, bias, batches):
    """Of the mean loss over batches, in numpy."""
    gw, gb = np.zeros(3), 0.0
    for batch in batches:
        x, y = batch["image"].numpy().astype(float), batch["label"].numpy().astype(float)[:, 0]
        left = x @ weight + bias - y
        gw += (2 * left[:, None] * x).mean(0) / len(batches)
        gb += (2 * left).mean() / len(batches)
    return gw, gb


def start_of(network):
    return network.weight.detach().numpy().astype(float)[0].copy(), float(network.bias.detach()[0])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_pull_is_the_papers(accumulate):
    network, mu = line(), 0.7
    pull = ProximalPull(network, mu)
    trainer, data = trainer_of(network, [pull], accumulate=accumulate)
    w, b = start_of(network)
    w0, b0 = w.copy(), b
    pull.begin()
    trainer.run()
    for n in range(0, len(data), accumulate):
        gw, gb = gradient(w, b, data[n : n + accumulate])
        w, b = w - RATE * (gw + mu * (w - w0)), b - RATE * (gb + mu * (b - b0))
    np.testing.assert_allclose(network.weight.detach().numpy()[0], w, rtol=1e-5)
    np.testing.assert_allclose(float(network.bias.detach()[0]), b, rtol=1e-5)


def test_no_pull_without_mu_and_none_where_the_guard_skips():
    network = line()
    pull = ProximalPull(network, 0.0)
    trainer, _ = trainer_of(network, [pull])
    pull.begin()
    trainer.run()
    plain = line()
    trainer_of(plain, [])[0].run()
    assert torch.equal(network.weight, plain.weight)
    network = line()
    pull, variates = ProximalPull(network, 5.0), ControlVariates(network)
    trainer, _ = trainer_of(network, [pull, variates], steps=1, broken=0)
    pull.begin()
    variates.begin({"weight": torch.ones(1, 3), "bias": torch.ones(1)})
    trainer.run()
    assert torch.equal(network.weight, line().weight)
    assert all(not value.any() for value in variates.end().values())


def test_the_variates_are_scaffolds_option_two():
    network = line()
    variates = ControlVariates(network)
    variates.own = {"weight": torch.tensor([[0.1, -0.2, 0.3]]), "bias": torch.tensor([0.05])}
    c = {"weight": torch.tensor([[0.2, 0.1, -0.1]]), "bias": torch.tensor([-0.3])}
    trainer, data = trainer_of(network, [variates])
    w, b = start_of(network)
    w0 = w.copy()
    own = variates.own["weight"].numpy()[0].astype(float).copy()
    variates.begin(c)
    trainer.run()
    for batch in data:
        gw, gb = gradient(w, b, [batch])
        w = w - RATE * (gw + c["weight"].numpy()[0] - own)
        b = b - RATE * (gb - 0.3 - 0.05)
    np.testing.assert_allclose(network.weight.detach().numpy()[0], w, rtol=1e-5)
    change = variates.end()
    wanted = own - c["weight"].numpy()[0] + (w0 - w) / (len(data) * RATE)  # Karimireddy et al., option II
    np.testing.assert_allclose(change["weight"].numpy()[0], wanted - own, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variates.own["weight"].numpy()[0], wanted, rtol=1e-4, atol=1e-6)
    again = ControlVariates(line())
    again.load_state_dict(variates.state_dict())
    assert torch.equal(again.own["bias"], variates.own["bias"])
