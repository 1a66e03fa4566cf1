"""Frozen parts stay as they are, compute as in validation, and learn when it is their turn."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from medseg.errors import UsageError
from medseg.networks import UNet
from medseg.training.freezing import Thaw, Unfrozen, frozen


class Net(nn.Module):
    """An encoder with everything that behaves differently while training, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.Dropout(0.5))
        self.head = nn.Conv3d(4, 2, 1)

    def forward(self, x):
        return self.head(self.encoder(x))


def step(network, optimizer) -> None:
    """As MONAI's trainer: all into training mode, at every step."""
    network.train()
    optimizer.zero_grad()
    network(torch.rand(2, 1, 4, 4, 4)).square().mean().backward()
    optimizer.step()


def kept(network, part="encoder"):
    return {name: value.clone() for name, value in getattr(network, part).state_dict().items()}


def unchanged(before, network, part="encoder") -> bool:
    return all(torch.equal(value, getattr(network, part).state_dict()[name]) for name, value in before.items())


def test_a_frozen_part_stays_and_the_rest_learns():
    torch.manual_seed(0)
    network = frozen(Net())
    weights = Unfrozen(network)
    assert [id(w) for w in weights] == [id(w) for w in network.head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=0.1, weight_decay=0.1)
    encoder, head = kept(network), kept(network, "head")
    for _ in range(3):
        step(network, optimizer)
    assert unchanged(encoder, network), "weights, and the statistics of the norm"
    assert not unchanged(head, network, "head")
    assert len(optimizer.state) == 2


def test_a_frozen_part_computes_as_in_validation():
    torch.manual_seed(0)
    network = frozen(Net()).train()
    x = torch.rand(2, 1, 4, 4, 4)
    drawn = network(x)
    assert torch.equal(drawn, network(x)), "no dropout"
    assert torch.equal(drawn, network.eval()(x))
    copied = copy.deepcopy(network).train()  # as a moving average is made
    assert torch.equal(drawn, copied(x))
    assert not copied.encoder.training


def test_a_part_of_a_part():
    network = frozen(UNet(1, 3, (4, 8, 8), dropout=0.5), ["encoder.levels.0", "stages"])
    still = {name.split(".")[0] for name, weight in network.named_parameters() if not weight.requires_grad}
    assert still == {"encoder", "stages"}
    assert network.encoder.levels[1].conv1.conv.weight.requires_grad


def test_a_list_of_modules_computes_as_in_validation():
    """Nobody calls the list itself."""
    network = UNet(1, 3, (4, 8, 8), dropout={"decoder": 0.5})
    x = torch.rand(1, 1, 16, 16, 16)
    assert not torch.equal(network.train()(x), network(x))
    frozen(network, ["dropout_decoder", "encoder"])
    assert torch.equal(network.train()(x), network(x))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["backbone"], "no part 'backbone'[\\s\\S]*encoder, head"),
        ([""], "no part ''"),
        ([], "no part to freeze"),
        (["encoder", "head"], "nothing would be left"),
    ],
)
def test_parts_that_make_no_sense_are_refused(parts, said):
    with pytest.raises(UsageError, match=f"MS-T171[\\s\\S]*{said}"):
        frozen(Net(), parts)


class Spent:
    """A schedule that is as far as it is told, and sets the rate at every iteration as `BudgetedSchedule` does."""

    def __init__(self, optimizer, steps: int) -> None:
        self.optimizer, self.steps = optimizer, steps

    def fraction(self, engine) -> float:
        return (engine.state.iteration - 1) / self.steps


def run(share: float = 0.5, steps: int = 4, factor: float = 0.1):
    """Per step: whether the encoder moved, by how much the head did, and the rate that a log would see."""
    torch.manual_seed(0)
    network = Net()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    schedule = Spent(optimizer, steps)
    thaw = Thaw(network, optimizer, schedule, share=share, factor=factor)
    told = []

    def update(engine, batch):
        encoder, head = kept(network), kept(network, "head")
        network.train()
        optimizer.zero_grad()
        network(torch.ones(1, 1, 4, 4, 4)).sum().backward()  # of the head's bias the slope is always 64
        optimizer.step()
        moved = (head["bias"] - network.head.bias).abs().max().item()
        told.append((not unchanged(encoder, network), moved, optimizer.param_groups[0]["lr"]))

    engine = Engine(update)
    thaw.attach(engine)
    engine.run(range(steps), max_epochs=1)
    return told


def test_heads_first_then_all_at_a_lower_rate():
    told = run()
    assert [moved for moved, _, _ in told] == [False, False, True, True]
    assert [by for _, by, _ in told] == pytest.approx([64, 64, 6.4, 6.4], rel=1e-5)
    assert [rate for _, _, rate in told] == [1.0] * 4


def test_a_resumed_run_that_is_past_the_share_is_thawed_at_once():
    assert [moved for moved, _, _ in run(share=1e-9)] == [False, True, True, True]


@pytest.mark.parametrize(("share", "factor"), [(0.0, 0.1), (1.0, 0.1), (1.5, 0.1), (0.5, 0.0), (0.5, 1.1)])
def test_a_share_that_makes_no_sense_is_refused(share, factor):
    with pytest.raises(UsageError, match="MS-T172"):
        run(share=share, factor=factor)


def test_a_thawed_part_drops_out_again():
    network = Net()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    thaw = Thaw(network, optimizer, Spent(optimizer, 1), share=0.5)
    x = torch.rand(1, 1, 8, 8, 8)
    assert torch.equal(network.train()(x), network(x))
    engine = Engine(lambda *_: None)
    thaw.attach(engine)
    engine.run(range(2), max_epochs=1)
    assert not torch.equal(network.train()(x), network(x))
    assert all(weight.requires_grad for weight in network.parameters())


TOGETHER = """
import sys
import torch
from ignite.engine import Engine
from torch import nn
from medseg.training.freezing import Thaw
from medseg.training.ranks import Replicated, joined

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Conv3d(1, 4, 3), nn.Conv3d(4, 2, 1)
    def forward(self, x):
        return self.head(self.encoder(x))

class Half:
    def fraction(self, engine):
        return (engine.state.iteration - 1) / 6

with joined() as (rank, count):
    torch.manual_seed(0)
    inner = Net()
    images = torch.rand(6, 4, 1, 6, 6, 6)
    network = Replicated(inner, find_unused_parameters=True) if count > 1 else inner
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    thaw = Thaw(network, optimizer, Half(), share=0.5)
    kept = []

    def update(engine, batch):
        network.train()
        optimizer.zero_grad()
        network(batch[rank::count]).square().mean(dim=(1, 2, 3, 4)).mean().backward()
        optimizer.step()
        kept.append(inner.encoder.weight.detach().clone())

    engine = Engine(update)
    thaw.attach(engine)
    engine.run(list(images), max_epochs=1)
    if rank == 0:
        torch.save({"network": inner.state_dict(), "kept": kept}, sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_thaw_as_one_does(tmp_path):
    (tmp_path / "together.py").write_text(TOGETHER, encoding="utf-8")
    found = {}
    for count in (1, 2):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if count > 1 else []
        done = subprocess.run(
            [sys.executable, *launcher, "together.py", f"{count}.pt"],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found[count] = torch.load(tmp_path / f"{count}.pt", weights_only=True)
    one, two = found[1], found[2]
    for name, value in one["network"].items():
        assert torch.allclose(value, two["network"][name], atol=1e-6), name
    steps = [not torch.equal(a, b) for a, b in zip(two["kept"], two["kept"][1:], strict=False)]
    assert steps == [False, False, True, True, True]
