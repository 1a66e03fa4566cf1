"""Sliding-window inference against MONAI's and nnU-Net's loops, on a CPU.

Four questions: end to end with a real network, blending and labelling alone (the network's own time is taken out),
and the peak of memory in fresh processes. Times are CPU seconds (user + system) of one process with one thread,
which other programs disturb less than wall time; medians of interleaved repeats. The network has random weights, so
medseg's check of bf16 labels is bypassed by asking for bf16; where the CPU has no bf16 the case says fp32.

nnU-Net takes part where nnunetv2 2.8.1 can be fetched (peers.py); it is its own predictor's loop that runs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet
from peers import FOLDER, NNUNET, peer

from medseg.inferers import SlidingWindowInferer
from medseg.inferers.precision import has_native_bf16

CPU = torch.device("cpu")

# What nnU-Net's predictor imports; its other dependencies bring torchvision, which does not load beside CPU torch.
PREDICTOR = (
    *NNUNET,
    "acvl_utils==0.2.6",
    "dynamic_network_architectures==0.4.4",
    "blosc2==4.14.1",
    "httpx==0.28.1",
    "msgpack==1.2.4",
    "ndindex==1.10.1",
    "numexpr==2.14.2",
    "tqdm==4.70.1",
)


def rows(quick: bool = False) -> list[dict]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*end_to_end(quick), *stitching(quick), *memory(quick)]
    finally:
        torch.set_num_threads(threads)


def row(case: str, peer: str, ours: float, theirs: float, unit: str) -> dict:
    return {"case": case, "peer": peer, "ratio": theirs / ours, "medseg": ours, "theirs": theirs, "unit": unit}


def interleaved(runs: dict, repeats: int) -> dict[str, float]:
    """Median CPU seconds of each run; every run once a round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(run())
    return {name: statistics.median(values) for name, values in times.items()}


def timed(call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


# --- end to end ---------------------------------------------------------------------------------------------------


def end_to_end(quick: bool) -> list[dict]:
    side, shape = (32, (64, 64, 48)) if quick else (96, (256, 256, 160))
    torch.manual_seed(0)
    network = UNet(3, 1, 3, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2).eval()
    image = torch.randn(1, 1, *shape)
    fast = "bf16" if has_native_bf16(CPU) else "fp32"

    def monai(*, autocast: bool) -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            sliding_window_inference(image, (side,) * 3, 1, network, 0.25, "gaussian").argmax(1)

    def medseg(precision: str) -> None:
        SlidingWindowInferer((side,) * 3, output="labels", precision=precision)(image, network)

    runs = {
        f"medseg {fast}": lambda: timed(lambda: medseg(fast)),
        "medseg fp32": lambda: timed(lambda: medseg("fp32")),
        "MONAI, default": lambda: timed(lambda: monai(autocast=False)),
        "MONAI, bf16 autocast": lambda: timed(lambda: monai(autocast=True)),
    }
    predictor = nnunet(network, side, 3)
    if predictor is not None:
        runs["nnU-Net, default"] = lambda: timed(lambda: predictor(image[0]).argmax(0))
    found = interleaved(runs, 1 if quick else 3)
    case = f"end to end with argmax, {'x'.join(map(str, shape))}, window {side}, C=3, 1 thread"
    ours = found.pop(f"medseg {fast}")
    fp32 = found.pop("medseg fp32", ours)
    rows = [row(f"{case}, {fast}", peer, ours, theirs, "CPU s") for peer, theirs in found.items()]
    return [*rows, row(f"{case}, fp32", "MONAI, default", fp32, found["MONAI, default"], "CPU s")]


# --- blending and labels without the network ----------------------------------------------------------------------


class Fake:
    """A network that costs nothing: its own CPU seconds are counted, to be taken out."""

    def __init__(self, classes: int, side: int) -> None:
        self.logits = torch.randn(1, classes, side, side, side)
        self.seconds = 0.0

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        start = time.process_time()
        fresh = self.logits.expand(windows.shape[0], -1, -1, -1, -1).clone()  # MONAI writes into what it is given
        self.seconds += time.process_time() - start
        return fresh

    def rest_of(self, call) -> float:
        """CPU seconds of `call` without those of this network."""
        self.seconds = 0.0
        return timed(call) - self.seconds


def stitching(quick: bool) -> list[dict]:
    side, shape = (32, (64, 64, 48)) if quick else (96, (256, 256, 160))
    image = torch.randn(1, 1, *shape)
    rows = []
    for classes, overlap in ((3, 0.25), (3, 0.5), (24, 0.25)):
        fake = Fake(classes, side)
        ours = SlidingWindowInferer((side,) * 3, overlap, 1, output="labels", precision="fp32")

        def medseg(ours=ours, fake=fake) -> float:
            return fake.rest_of(lambda: ours(image, fake))

        def monai(fake=fake, overlap=overlap) -> float:
            return fake.rest_of(
                lambda: sliding_window_inference(image, (side,) * 3, 1, fake, overlap, "gaussian").argmax(1)
            )

        runs = {"medseg": medseg, "MONAI": monai}
        predictor = nnunet(fake, side, classes, overlap)
        if predictor is not None:
            runs["nnU-Net"] = lambda fake=fake, predictor=predictor: fake.rest_of(lambda: predictor(image[0]).argmax(0))
        found = interleaved(runs, 2 if quick else 5)
        mine = found.pop("medseg")
        case = f"blending and labels alone, {'x'.join(map(str, shape))}, window {side}, overlap {overlap}, C={classes}"
        rows += [row(case, peer, mine, theirs, "CPU s") for peer, theirs in found.items()]
    return rows


# --- memory -------------------------------------------------------------------------------------------------------


def memory(quick: bool) -> list[dict]:
    """Peak resident memory above that with the image and the network in memory, each in a fresh process."""
    classes, side, shape = (8, 32, (160, 64, 64)) if quick else (24, 96, (480, 160, 160))
    job = json.dumps({"classes": classes, "side": side, "shape": shape})
    mine, theirs = (
        float(
            subprocess.run(
                [sys.executable, str(Path(__file__)), who, job], capture_output=True, text=True, check=True
            ).stdout.split()[-1]
        )
        for who in ("medseg", "MONAI")
    )
    case = f"peak memory with label output, {'x'.join(map(str, shape))}, window {side}, C={classes}"
    return [row(case, "MONAI + argmax", mine, theirs, "MiB")]


def peak_memory(who: str, classes: int, side: int, shape: list[int]) -> float:
    """MiB that this process takes above its baseline; for a fresh process only."""
    torch.set_num_threads(1)
    image = torch.randn(1, 1, *shape)
    logits = torch.randn(1, classes, side, side, side)

    def fake(windows: torch.Tensor) -> torch.Tensor:
        return logits.expand(windows.shape[0], -1, -1, -1, -1).clone()

    with Resident() as resident:
        if who == "medseg":
            SlidingWindowInferer((side,) * 3, 0.25, 1, output="labels")(image, fake)
        else:
            sliding_window_inference(image, (side,) * 3, 1, fake, 0.25, "gaussian").argmax(1)
    return resident.growth / 2**20


class Resident:
    """Growth of this process's resident memory inside, looked at every 2 ms."""

    def __enter__(self):
        self.process = psutil.Process()
        self.before = self.process.memory_info().rss
        self.growth = 0
        self.stop = threading.Event()
        self.watch = threading.Thread(target=self._watch, daemon=True)
        self.watch.start()
        return self

    def _watch(self) -> None:
        while not self.stop.wait(0.002):
            self.growth = max(self.growth, self.process.memory_info().rss - self.before)

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.watch.join()


# --- nnU-Net ------------------------------------------------------------------------------------------------------


def nnunet(network, side: int, classes: int, overlap: float = 0.25):
    """nnU-Net's own loop around a network: (C, *space) -> logits; None where nnunetv2 is not there.

    Gaussian weights, no mirroring, half-precision sums: its defaults on a CPU, with the given overlap.
    """
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):  # it warns where they are not set
        os.environ.setdefault(name, str(FOLDER))
    module = peer("nnunetv2.inference.predict_from_raw_data", *PREDICTOR)
    if module is None:
        return None
    predictor = module.nnUNetPredictor(
        tile_step_size=1 - overlap,
        use_gaussian=True,
        use_mirroring=False,
        device=CPU,
        allow_tqdm=False,
        perform_everything_on_device=False,
    )
    predictor.network = network if isinstance(network, torch.nn.Module) else Module(network)
    predictor.configuration_manager = SimpleNamespace(patch_size=(side,) * 3)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=classes)
    predictor.allowed_mirroring_axes = None
    return predictor.predict_sliding_window_return_logits


class Module(torch.nn.Module):
    """A function as the module that nnU-Net wants."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return self.function(windows)


if __name__ == "__main__":
    sys.stdout.write(f"{peak_memory(sys.argv[1], **json.loads(sys.argv[2]))}\n")
