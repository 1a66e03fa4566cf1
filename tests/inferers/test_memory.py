from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medseg.errors import MemoryLimitError
from medseg.inferers import SlidingWindowInferer, sliding
from medseg.inferers.memory import Placement, is_out_of_memory, next_placement
from medseg.inferers.stream import stream

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ON_CPU = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
IMAGE = torch.randn((1, 1, 40, 20, 20), generator=torch.Generator().manual_seed(0))


def test_the_whole_ladder():
    placement, codes, seen = Placement(4, CUDA, CUDA), [], []
    while (step := next_placement(placement, lambda: 2)) is not None:
        placement, event = step
        codes.append(event.code)
        seen.append((placement.batch, placement.network.type, placement.sums.type))
    assert seen == [
        (2, "cuda", "cuda"),
        (1, "cuda", "cuda"),
        (1, "cuda", "cpu"),
        (2, "cpu", "cpu"),
        (1, "cpu", "cpu"),
    ]
    assert codes == ["MS-M201", "MS-M201", "MS-M202", "MS-M203", "MS-M201"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(ON_CPU),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((3,), np.dtype(float)),
    ],
)
def test_every_backend_is_understood(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("expected scalar type Float"), ValueError("out of memory"), KeyError("x")]
)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(ON_CPU), MemoryError()])
def test_a_smaller_batch_gives_the_same_result_and_says_so(error):
    def network(x):
        if x.shape[0] > 2:
            raise error
        return x * 2

    inferer = SlidingWindowInferer(16, sw_batch_size=8)
    torch.testing.assert_close(inferer(IMAGE, network), IMAGE * 2)
    assert [event.code for event in inferer.events] == ["MS-M201", "MS-M201"]
    assert inferer.events[0].message == "out of memory on cpu: 4 windows at a time instead of 8"


def test_events_are_those_of_the_last_call():
    calls = []

    def network(x):
        calls.append(x.shape[0])
        if len(calls) == 1:
            raise MemoryError
        return x

    inferer = SlidingWindowInferer(16, sw_batch_size=2)
    inferer(IMAGE, network)
    assert len(inferer.events) == 1
    inferer(IMAGE, network)
    assert inferer.events == []


def test_when_nothing_helps_the_error_has_numbers_and_the_mend():
    def network(x):
        raise torch.OutOfMemoryError(ON_CPU)

    with pytest.raises(MemoryLimitError, match="MS-M101 out of memory also with one window of 16 x 16 x 16") as caught:
        SlidingWindowInferer(16, sw_batch_size=4)(IMAGE, network)
    assert "can't allocate memory" in str(caught.value)
    assert "MiB of memory are free" in str(caught.value)
    assert 'output="labels"' in caught.value.mend
    with pytest.raises(MemoryLimitError) as caught:
        SlidingWindowInferer(16, output="labels")(IMAGE, network)
    assert 'output="labels"' not in caught.value.mend


def test_other_errors_of_a_network_pass_unchanged():
    def network(x):
        msg = "expected scalar type Float"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="expected scalar type Float"):
        SlidingWindowInferer(16)(IMAGE, network)


class Doubles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return x * self.weight


def test_a_gpu_that_never_suffices_ends_on_the_cpu(monkeypatch):
    tried = []

    def only_on_cpu(*args, placement, **kwargs):
        tried.append((placement.batch, placement.network.type, placement.sums.type))
        if placement.network != CPU:
            raise torch.OutOfMemoryError("CUDA out of memory")
        stream(*args, placement=placement, **kwargs)

    monkeypatch.setattr(sliding, "network_device", lambda network, default: CUDA)
    monkeypatch.setattr(sliding, "stream", only_on_cpu)
    inferer = SlidingWindowInferer(16, sw_batch_size=2, precision="fp32")
    torch.testing.assert_close(inferer(IMAGE, Doubles()), IMAGE * 2)
    assert tried == [(2, "cuda", "cuda"), (1, "cuda", "cuda"), (1, "cuda", "cpu"), (2, "cpu", "cpu")]
    assert [event.code for event in inferer.events] == ["MS-M201", "MS-M202", "MS-M203"]


@pytest.mark.gpu
@pytest.mark.parametrize("output", ["labels", "logits"])
def test_a_capped_gpu_gives_the_cpus_result(output):
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    network = UNet(3, 1, 3, (16, 32, 64), (2, 2), num_res_units=2).eval()
    image = torch.randn((1, 1, 200, 160, 160), generator=torch.Generator().manual_seed(0))
    settings = {"output": output, "precision": "fp32"}
    wanted = SlidingWindowInferer(96, **settings)(image, network)
    free = SlidingWindowInferer(96, sw_batch_size=16, **settings)
    full = free(image, network.cuda())
    assert free.events == []
    total = torch.cuda.get_device_properties(0).total_memory
    peak = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.5 * peak / total)
    try:
        capped = SlidingWindowInferer(96, sw_batch_size=16, **settings)
        result = capped(image, network)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert capped.events
    assert capped.events[0].code == "MS-M201"
    for found in (full, result):
        if output == "labels":
            assert (found != wanted).float().mean() < 1e-4
        else:
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
def test_labels_of_gpu_and_cpu_agree():
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    network = UNet(3, 1, 3, (16, 32, 64), (2, 2), num_res_units=2).eval()
    image = torch.randn((1, 1, 120, 100, 100), generator=torch.Generator().manual_seed(0))
    inferer = SlidingWindowInferer(64, output="labels", precision="fp32")
    on_cpu = inferer(image, network)
    on_gpu = inferer(image, network.cuda())
    assert on_gpu.device.type == "cpu"  # where the image is
    assert inferer(image.cuda(), network).device.type == "cuda"
    assert (on_cpu == on_gpu).float().mean() >= 0.9999
