"""Volumetric RoIAlign against `grid_sample` at every sample point and a mean over the bins, on a CPU.

That is what users write today, as no library has RoIAlign in 3D. Both sides get the same contiguous float32 features
and the same contiguous gradient of the output; what ours needs to turn them to channels last is in its time. One
thread; CPU seconds; medians of interleaved repeats.
Memory is the growth of the peak over what is there before (features, boxes, the gradient handed down), in fresh
processes.
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
from torch import Tensor, nn

from medseg.networks.roi_align import roi_align_3d

RATIO = 2
SMALL, LARGE = (4, 18), (20, 48)


def case(side: int, rois: int, voxels: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Features (1, 64, side, side, side) and boxes within them."""
    torch.manual_seed(0)
    features = torch.randn(1, 64, side, side, side)
    size = voxels[0] + (min(voxels[1], side) - voxels[0]) * torch.rand(rois, 3)
    low = torch.rand(rois, 3) * (side - size)
    return features, torch.cat([torch.zeros(rois, 1), low, low + size], 1)


def theirs(features: Tensor, boxes: Tensor, bins: int) -> Tensor:
    """One grid of all samples of all boxes; border padding, as no sample leaves these features by a voxel."""
    side, k = features.shape[-1], bins * RATIO
    low, size = boxes[:, 1:4], boxes[:, 4:7] - boxes[:, 1:4]
    at = low[:, :, None] + size[:, :, None] * (torch.arange(k) + 0.5) / k  # edges: index + 0.5
    z, y, x = (2 * at / side - 1).unbind(1)
    points = torch.broadcast_tensors(x[:, None, None, :], y[:, None, :, None], z[:, :, None, None])
    points = torch.stack(points, -1).reshape(1, -1, k, k, 3)
    samples = nn.functional.grid_sample(features, points, padding_mode="border", align_corners=False)
    out = nn.functional.avg_pool3d(samples, RATIO)
    return out.reshape(features.shape[1], -1, bins, bins, bins).transpose(0, 1)


def ours(features: Tensor, boxes: Tensor, bins: int) -> Tensor:
    return roi_align_3d(features, boxes, bins, 1.0, RATIO)


WAYS = {"theirs": theirs, "medseg": ours}


def upstream(features: Tensor, boxes: Tensor, bins: int) -> Tensor:
    """The gradient that a loss would hand down."""
    return torch.ones(len(boxes), features.shape[1], bins, bins, bins)


def run(way: str, features: Tensor, boxes: Tensor, bins: int, handed: Tensor | None) -> Tensor:
    """The output, or with a gradient handed down the gradient of the features."""
    if handed is None:
        with torch.no_grad():
            return WAYS[way](features, boxes, bins)
    features = features.detach().requires_grad_()
    out = WAYS[way](features, boxes, bins)
    (grad,) = torch.autograd.grad(out, features, handed)
    return grad


def rows(quick: bool = False) -> list[dict]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    side, rois = (24, 16) if quick else (48, 512)
    todo = [(side, rois, SMALL, bins, 1 if quick else 5 if bins == 7 else 3) for bins in (7, 14)]
    todo += [(64, 8 if quick else 128, LARGE, 7, 1 if quick else 3)]
    out = []
    try:
        for space, count, voxels, bins, repeats in todo:
            features, boxes = case(space, count, voxels)
            for backward in (False, True):
                times, results = {way: [] for way in WAYS}, {}
                handed = upstream(features, boxes, bins) if backward else None
                for turn in range(repeats + 1):
                    for way in WAYS:
                        start = time.process_time()
                        result = run(way, features, boxes, bins, handed)
                        if turn:  # the first turn is not timed: it loads code, and shows that both say the same
                            times[way].append(time.process_time() - start)
                        else:
                            results[way] = result
                        del result
                    if not turn:
                        torch.testing.assert_close(results["medseg"], results["theirs"], rtol=1e-3, atol=1e-3)
                        results.clear()
                medians = {way: statistics.median(values) for way, values in times.items()}
                what = f"{name(space, count, voxels, bins, backward)}"
                out.append(row(what, medians["medseg"], medians["theirs"], "s"))
                sys.stderr.write(f"{out[-1]}\n")
    finally:
        torch.set_num_threads(threads)
    return [*out, *memory(side, rois)]


def name(side: int, rois: int, voxels: tuple[int, int], bins: int, backward: bool) -> str:
    what = "forward + backward" if backward else "forward"
    return f"{what}, {bins}^3 bins, {rois} RoIs of {voxels[0]} to {voxels[1]} voxels, 64 x {side}^3"


def row(what: str, mine: float, others: float, unit: str) -> dict:
    peer = "grid_sample"
    return {"case": what, "peer": peer, "ratio": others / mine, "medseg": mine, "theirs": others, "unit": unit}


def memory(side: int, rois: int) -> list[dict]:
    out = []
    for bins in (7, 14):
        for backward in (False, True):
            peaks = {way: peak(way, side, rois, bins, backward) for way in WAYS}
            what = f"peak memory, {name(side, rois, SMALL, bins, backward)}"
            out.append(row(what, peaks["medseg"], peaks["theirs"], "MiB"))
            sys.stderr.write(f"{out[-1]}\n")
    return out


def peak(way: str, *asked) -> float:
    """Growth of the peak in a process of its own, MiB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, json.dumps([way, *asked])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout.split()[-1])


def measure(way: str, side: int, rois: int, bins: int, backward: bool) -> None:
    small = case(8, 2, (4, 6))
    run(way, *small, bins, upstream(*small, bins) if backward else None)  # code and its memory are there before
    features, boxes = case(side, rois, SMALL)
    handed = upstream(features, boxes, bins) if backward else None
    process, stop, seen = psutil.Process(), threading.Event(), []
    before = process.memory_info().rss

    def watch() -> None:
        while not stop.wait(0.001):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = run(way, features, boxes, bins, handed)
    seen.append(process.memory_info().rss)
    stop.set()
    watcher.join()
    del result
    print((max(seen) - before) / 2**20)


if __name__ == "__main__":
    measure(*json.loads(sys.argv[1]))
