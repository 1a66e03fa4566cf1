"""Monte Carlo dropout against running the network T times and storing every sample, on a CPU.

The peer is what users write today: dropout modules switched on, T sliding-window passes by MONAI, all probabilities
stacked, then mean, predictive entropy and mutual information. Dropout stands at one place at a time; the further
behind, the more is computed once. One window of 64^3, as a network's own speed must show; the same network in bf16 on
both sides where the CPU has it; one thread; CPU seconds.
Memory is the growth of the peak over what is there before, in fresh processes, on a volume of several windows.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time

import psutil
import torch
from monai.inferers import sliding_window_inference
from torch import nn

from medseg.inferers import McDropout, SlidingWindowInferer, UncertainInferer
from medseg.inferers.dropout import KINDS
from medseg.inferers.precision import bf16_replica, has_native_bf16
from medseg.networks import UNet

SAMPLES = 20
PLACES = {
    "head": "dropout_head",
    "last decoder stage": "dropout_decoder.2",
    "bottleneck": "dropout_bottleneck",
}


def network(place: str) -> UNet:
    """nnU-Net's usual size: 32 to 320 channels, one active place."""
    torch.manual_seed(0)
    net = UNet(1, 3, (32, 64, 128, 256, 320), dropout=0.2).eval()
    for name, module in net.named_modules():
        if isinstance(module, KINDS):
            module.p = 0.2 if name == PLACES[place] else 0.0
    return net


def naive(image: torch.Tensor, net: nn.Module, roi: tuple[int, ...], count: int):
    """T passes, stored."""
    for module in net.modules():
        module.training = isinstance(module, KINDS)
    with torch.no_grad():
        p = torch.stack(
            [
                sliding_window_inference(image, roi, 1, net, 0.25, mode="gaussian").float().softmax(1)
                for _ in range(count)
            ]
        )
    net.eval()
    mean = p.mean(0)
    entropy = -(mean * mean.clamp(min=1e-12).log()).sum(1)
    expected = -(p * p.clamp(min=1e-12).log()).sum(2).mean(0)
    return mean, entropy, entropy - expected


def ours(image: torch.Tensor, net: nn.Module, roi: tuple[int, ...], count: int, place: str):
    settings = SlidingWindowInferer(roi, 0.25, precision="fp32")
    return UncertainInferer(settings)(image, McDropout(net, count, points={PLACES[place]: None}))


def rows(quick: bool = False) -> list[dict]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    side, count, repeats = (32, 4, 1) if quick else (64, SAMPLES, 3)
    half = has_native_bf16(torch.device("cpu"))
    image, roi = torch.randn(1, 1, side, side, side, dtype=torch.bfloat16 if half else torch.float32), (side,) * 3
    out = []
    try:
        for place in PLACES:
            net = network(place)
            net = bf16_replica(net) if half else net
            runs = {
                "theirs": lambda n=net: naive(image, n, roi, count),
                "medseg": lambda n=net, p=place: ours(image, n, roi, count, p),
            }
            times: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(repeats):
                for name, run in runs.items():
                    start = time.process_time()
                    run()
                    times[name].append(time.process_time() - start)
            medians = {name: statistics.median(values) for name, values in times.items()}
            case = f"T = {count}, dropout at the {place}, {side}^3, {'bf16' if half else 'fp32'}"
            out.append(row(case, medians["medseg"], medians["theirs"], "s"))
            sys.stderr.write(f"{out[-1]}\n")
    finally:
        torch.set_num_threads(threads)
    return [*out, *memory(quick)]


def memory(quick: bool) -> list[dict]:
    side, roi, count = (64, 32, 4) if quick else (192, 64, SAMPLES)
    out = []
    for place in PLACES:
        peaks = {who: peak(who, place, side, roi, count) for who in ("medseg", "theirs")}
        out.append(row(f"peak memory, T = {count}, {place}, {side}^3", peaks["medseg"], peaks["theirs"], "MiB"))
    return out


def row(case: str, mine: float, theirs: float, unit: str) -> dict:
    peer = "T passes, stored"
    return {"case": case, "peer": peer, "ratio": theirs / mine, "medseg": mine, "theirs": theirs, "unit": unit}


def peak(who: str, place: str, side: int, roi: int, count: int) -> float:
    """Growth of the peak in a process of its own, MiB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    asked = json.dumps([who, place, side, roi, count])
    done = subprocess.run(
        [sys.executable, __file__, asked], capture_output=True, text=True, check=True, env=environment
    )
    return float(done.stdout.split()[-1])


class Small(nn.Module):
    """A network of little memory of its own, so that what is stored shows: the same places of dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv3d(1, 8, 3, padding=1)
        self.dropout_bottleneck = nn.Dropout3d(0.2)
        self.middle = nn.Conv3d(8, 8, 1)
        self.dropout_decoder = nn.ModuleList([nn.Identity(), nn.Identity(), nn.Dropout3d(0.2)])
        self.last = nn.Conv3d(8, 24, 1)
        self.dropout_head = nn.Dropout3d(0.2)
        self.head = nn.Conv3d(24, 3, 1)

    def forward(self, x):
        x = self.middle(self.dropout_bottleneck(self.encoder(x)))
        return self.head(self.dropout_head(self.last(self.dropout_decoder[2](x))))


def measure(who: str, place: str, side: int, roi: int, count: int) -> None:
    torch.manual_seed(0)
    net = Small().eval()
    for name, module in net.named_modules():
        if isinstance(module, KINDS):
            module.p = 0.2 if name == PLACES[place] else 0.0
    image = torch.randn(1, 1, side, side, side)
    windows = (roi,) * 3
    ours(image[..., :roi, :roi, :roi], net, windows, 2, place)  # code and its memory are there before
    process, stop, seen = psutil.Process(), threading.Event(), []
    before = process.memory_info().rss

    def watch() -> None:
        while not stop.wait(0.002):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if who == "medseg":
        ours(image, net, windows, count, place)
    else:
        naive(image, net, windows, count)
    stop.set()
    watcher.join()
    print((max(seen) - before) / 2**20)


if __name__ == "__main__":
    measure(*json.loads(sys.argv[1]))
