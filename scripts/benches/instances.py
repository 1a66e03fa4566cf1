"""Instance metrics: 400 instances in 256^3 against stardist, 40 in 96^3 against MONAI.

medseg's numbers are all of `instance_metrics`: matching, F1, PQ, AP at 18 thresholds, FROC's hits by both rules, size
buckets; with HD95 also the surfaces of every pair. stardist 0.9.1's `matching` gives F1 and PQ at one threshold out of
a dense table (its file alone is loaded: its compiled parts ask for NumPy 1). MONAI's `compute_panoptic_quality` gives
PQ with two masks of 32 bits for each instance, which for 400 instances in 256^3 would be 50 GB, hence the small case.
Peak memory is that of a whole fresh process, libraries and the two maps (128 MiB of the large case) included.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
from interleaved import timed
from peers import FOLDER, peer

STARDIST = ("stardist==0.9.1", "csbdeep==0.8.1", "six==1.17.0", "tqdm==4.70.1")


def rows(quick: bool) -> list[dict]:
    large, small = ((40, 128), (8, 48)) if quick else ((400, 256), (40, 96))
    return compared(*large, "stardist", quick) + compared(*small, "MONAI", quick)


def compared(n: int, side: int, peer: str, quick: bool) -> list[dict]:
    pred, ref = maps(n, side)
    ways = {name: way for name in ("medseg", "medseg with HD95", peer) if (way := load(name)) is not None}
    scores = {name: way(pred, ref) for name, way in ways.items()}
    if np.ptp(list(scores.values())) > 1e-5:
        raise SystemExit(f"they disagree on panoptic quality: {scores}")
    case = f"{n} instances in {side}^3"
    calls = {name: lambda way=way: way(pred, ref) for name, way in ways.items()}
    mine, *others = (peak_mib(name, pred, ref) for name in ways)
    return timed(case, calls, 2 if quick else 5) + [
        {"case": f"{case}, peak", "peer": name, "ratio": b / mine, "medseg": mine, "theirs": b, "unit": "MiB"}
        for name, b in zip(list(ways)[1:], others, strict=True)
    ]


def maps(n: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and reference, int32: ellipsoids, one in a cell of a lattice, the prediction's a little beside them.

    One in twenty is missed, one in twenty is the prediction's alone.
    """
    rng, cells = np.random.default_rng(0), int(np.ceil(n ** (1 / 3)))
    width = side // cells
    places = rng.permutation(list(product(range(cells), repeat=3)))[:n] * width
    pred, ref = np.zeros((2, side, side, side), np.int32)
    index = np.indices((width,) * 3).reshape(3, -1).T
    for number, start in enumerate(places, 1):
        radii = rng.uniform(0.2, 0.42, 3) * width
        cell = tuple(slice(s, s + width) for s in start)
        for labels, centre, skip in ((ref, 0.0, 19), (pred, rng.uniform(-1, 1, 3) * width / 16, 7)):
            inside = (((index - (width - 1) / 2 - centre) / radii) ** 2).sum(1) < 1
            if number % 20 != skip:
                labels[cell][inside.reshape((width,) * 3)] = number
    return pred, ref


def load(name: str):
    """(pred, ref) -> panoptic quality, as `name` measures it; None where that cannot be fetched."""
    return {
        "medseg": lambda: medseg(None),
        "medseg with HD95": lambda: medseg("border"),
        "stardist": stardist,
        "MONAI": monai,
    }[name]()


def medseg(definition: str | None):
    from medseg.metrics.instance import instance_metrics

    def measure(pred: np.ndarray, ref: np.ndarray) -> float:
        numbers = np.unique(pred[::2, ::2, ::2])  # no instance is thinner; a predictor knows its own
        scores = {int(number): 1 / int(number) for number in numbers if number}
        sizes = {"small": (0, 1000), "medium": (1000, 5000), "large": (5000, np.inf)}
        found = instance_metrics(
            pred, ref, spacing_mm=(1, 1, 1), scores=scores, buckets_mm3=sizes, definition=definition
        )
        return dict(found.rows())["pq"]

    return measure


def stardist():
    if peer("csbdeep.utils", *STARDIST) is None:
        return None
    spec = importlib.util.spec_from_file_location("stardist_matching", FOLDER / "stardist" / "matching.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda pred, ref: module.matching(ref, pred, 0.5).panoptic_quality


def monai():
    import torch
    from monai.metrics.panoptic_quality import compute_panoptic_quality

    return lambda pred, ref: float(compute_panoptic_quality(torch.from_numpy(pred), torch.from_numpy(ref)))


def peak_mib(name: str, pred: np.ndarray, ref: np.ndarray) -> float:
    """MiB resident at most in a fresh process that loads the maps and measures them."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "maps.npy", np.stack([pred, ref]))
        command = [sys.executable, __file__, name, str(Path(folder) / "maps.npy")]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


if __name__ == "__main__":
    load(sys.argv[1])(*np.load(sys.argv[2]))
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # getrusage's peak is inherited from the parent
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024)
