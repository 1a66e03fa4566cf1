from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.inferers import SlidingWindowInferer, precision
from medseg.inferers.precision import (
    agreement,
    bf16_replica,
    most_contrast,
    network_device,
    network_dtype,
    replica,
)
from medseg.inferers.rewrite import ConvInBlocks


class Steps(nn.Module):
    """Two classes that part at an intensity; `shift` moves the border by as much as bf16 cannot see, or not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("seen", torch.zeros(3))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x):
        return torch.cat([torch.zeros_like(x), x * self.weight], 1)


class WrongInHalf(Steps):
    """Calls all foreground as soon as its weights are bf16."""

    def forward(self, x):
        return torch.cat([torch.zeros_like(x), x * self.weight + 2 * (self.weight.dtype == torch.bfloat16)], 1)


class RefusesHalf(Steps):
    def forward(self, x):
        if self.weight.dtype != torch.float32:
            msg = "expected float\nand more"
            raise RuntimeError(msg)
        return super().forward(x)


IMAGE = torch.randn((1, 1, 40, 30, 30), generator=torch.Generator().manual_seed(0)).sign()


@pytest.fixture
def bf16_machine(monkeypatch):
    monkeypatch.setattr(precision, "has_native_bf16", lambda device: True)


def run(network, image=IMAGE, **settings):
    inferer = SlidingWindowInferer(16, output="labels", **settings)
    seen = []
    inferer.progress = lambda done, total: seen.append(total)
    return inferer, inferer(image, network)


@pytest.mark.usefixtures("bf16_machine")
def test_bf16_where_labels_agree():
    inferer, labels = run(Steps())
    assert [event.code for event in inferer.events] == ["MS-M211"]
    assert "agree on 100.000% of voxels and 100.00% of the foreground" in inferer.events[0].message
    assert torch.equal(labels, (IMAGE > 0).byte())


@pytest.mark.usefixtures("bf16_machine")
def test_fp32_where_they_do_not():
    inferer, labels = run(WrongInHalf())
    assert [event.code for event in inferer.events] == ["MS-M212"]
    assert torch.equal(labels, (IMAGE > 0).byte())


@pytest.mark.usefixtures("bf16_machine")
def test_fp32_where_the_network_cannot_run_in_bf16():
    inferer, labels = run(RefusesHalf())
    assert [event.code for event in inferer.events] == ["MS-M212"]
    assert "cannot be run in bf16 (expected float)" in inferer.events[0].message
    assert torch.equal(labels, (IMAGE > 0).byte())


@pytest.mark.usefixtures("bf16_machine")
def test_a_small_volume_is_not_worth_the_check():
    inferer, _ = run(WrongInHalf(), IMAGE[..., :16, :16, :16])
    assert inferer.events == []


@pytest.mark.usefixtures("bf16_machine")
def test_functions_and_other_dtypes_are_left_alone():
    inferer, _ = run(lambda x: Steps()(x))
    assert inferer.events == []
    inferer, _ = run(Steps().double())
    assert inferer.events == []


def test_fp32_without_the_hardware(monkeypatch):
    monkeypatch.setattr(precision, "has_native_bf16", lambda device: False)
    inferer, _ = run(WrongInHalf())
    assert inferer.events == []


def test_bf16_on_demand_runs_a_copy():
    dtypes = []

    class Spy(Steps):
        def forward(self, x):
            dtypes.append((x.dtype, self.weight.dtype))
            return super().forward(x)

    network = Spy()
    run(network, precision="bf16")
    assert set(dtypes) == {(torch.bfloat16, torch.bfloat16)}
    assert network.weight.dtype == torch.float32


def test_bf16_on_demand_of_a_function_is_autocast():
    weight = torch.randn(2, 1, 1, 1, 1)
    dtypes = []

    def network(x):
        y = nn.functional.conv3d(x, weight)
        dtypes.append(y.dtype)
        return y

    run(network, precision="bf16")
    assert set(dtypes) == {torch.bfloat16}


def test_replica_is_apart_from_the_original():
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2)).eval()
    network[0].weight.requires_grad_(True)
    copy = replica(network, dtype=torch.bfloat16)
    assert {w.dtype for w in copy.parameters()} == {torch.bfloat16}
    assert copy[1].num_batches_tracked.dtype == torch.int64
    assert not copy.training
    with torch.no_grad():
        for tensor in [*copy.parameters(), *copy.buffers()]:
            tensor.zero_()
    assert network[0].weight.any()
    assert network[1].weight.dtype == torch.float32


def test_only_the_bf16_copy_is_rewritten():
    network = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1))
    copy = bf16_replica(network)
    assert type(copy[0]) is ConvInBlocks
    assert type(network[0]) is nn.Conv3d
    assert type(replica(network)[0]) is nn.Conv3d
    assert type(bf16_replica(network.to("meta"))[0]) is nn.Conv3d  # any device but a CPU


def test_replica_keeps_shared_weights_shared():
    first = nn.Linear(2, 2)
    second = nn.Linear(2, 2)
    second.weight = first.weight
    copy = replica(nn.Sequential(first, second), dtype=torch.bfloat16)
    assert copy[0].weight is copy[1].weight


def test_agreement_counts_voxels_and_foreground():
    a = torch.zeros(2, 1, 1, 100)
    a[1] = -1
    b = a.clone()
    a[1, ..., :4] = 1  # 4 foreground voxels
    b[1, ..., 1:5] = 1  # 3 of them, and another
    found = agreement(a, b, None)
    assert found == (0.98, 3 / 5)
    assert not found.suffices
    assert agreement(a, a, None) == (1.0, 1.0)
    assert agreement(a[:1] - 1, b[:1] - 1, (1,)) == (1.0, 1.0)  # no foreground at all


def test_little_foreground_weighs_as_much_as_it_should():
    a = torch.zeros(2, 1, 100, 100)
    a[1] = -1
    b = a.clone()
    a[1, 0, 0, :8] = 1
    b[1, 0, 0, :4] = 1
    found = agreement(a, b, None)
    assert found.voxels > precision.MIN_AGREEMENT
    assert not found.suffices


def test_the_windows_with_most_contrast_are_checked():
    windows = [torch.full((1, 8, 8, 8), 3.0) for _ in range(5)]
    windows[3][..., ::8] = 50
    windows[1][..., ::8] = 20
    assert most_contrast(windows.__getitem__, 5, 2) == [3, 1]
    assert most_contrast(windows.__getitem__, 5, 3) == [3, 1, 0]


def test_what_a_network_is_made_of():
    assert network_dtype(nn.Conv3d(1, 1, 1).half()) == torch.float16
    assert network_dtype(nn.ReLU()) == network_dtype(lambda x: x) == torch.float32
    assert network_device(nn.Conv3d(1, 1, 1, device="meta"), torch.device("cpu")).type == "meta"
    assert network_device(nn.ReLU(), torch.device("meta")).type == "meta"
