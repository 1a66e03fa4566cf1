"""Surface metrics of organ-like structures, one thread, against surface-distance 0.1 (DeepMind) and MONAI.

medseg's numbers are all of `surface_metrics`: HD, HD95, ASSD, MASD, and at 1 and 2 mm NSD, boundary IoU and boundary F1.
surface-distance gives HD, HD95, the directed means and NSD out of one distance transform each way; MONAI takes four
calls (HausdorffDistance, HD95, SurfaceDistance, SurfaceDice), given its one-hot masks ready made. Where MONAI's
channels would not fit in memory, fewer structures are measured and the time is scaled up; the case says so. Before
anything is timed the peers' numbers are compared with medseg's. Memory is the peak above what the process held before,
with the maps and libraries loaded and one small pair measured.
"""

from __future__ import annotations

import ctypes
import importlib
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
from interleaved import timed
from peers import peer
from scipy.ndimage import gaussian_filter, zoom

from medseg.metrics.surface import surface_metrics

CASES = {  # shape, structures, spacing in mm, structures that MONAI is given
    "1 label, 128x128x128": ((128, 128, 128), 1, (0.8, 0.8, 2.5), 1),
    "3 labels, 256x256x128": ((256, 256, 128), 3, (0.8, 0.8, 2.5), 3),
    "20 labels, 512x512x300": ((512, 512, 300), 20, (0.8, 0.8, 1.5), 2),
}
QUICK = {
    "1 label, 48x48x48": ((48, 48, 48), 1, (0.8, 0.8, 2.5), 1),
    "4 labels, 64x64x48": ((64, 64, 48), 4, (0.8, 0.8, 1.5), 2),
}


def rows(quick: bool) -> list[dict]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cases = QUICK if quick else CASES
    try:
        found = [row for name in cases for row in compared(name, *cases[name], 2 if quick else 5)]
    finally:
        torch.set_num_threads(threads)
    last = list(cases)[-1]
    return [*found, *strays(last, *cases[last][:3], 2 if quick else 5), *memory(last)]


def compared(name: str, shape: tuple, n: int, spacing: tuple, few: int, repeats: int) -> list[dict]:
    pred, ref = pair(shape, n, spacing)
    ours = {kind: lambda kind=kind: medseg(pred, ref, spacing, kind) for kind in ("border", "surfel")}
    deepmind, monai = deepmind_on(pred, ref, spacing, n), monai_on(pred, ref, spacing, few)
    same("MONAI", ours["border"](), monai())
    monai_case = f"border, {name}" + (f" (MONAI: {few} of {n} labels, its time times {n / few:g})" if few < n else "")
    found = timed(
        monai_case, {"medseg": ours["border"], "MONAI, 4 calls": monai}, min(repeats, 3) if few < n else repeats
    )
    for row in found:
        row["theirs"], row["ratio"] = row["theirs"] * n / few, row["ratio"] * n / few
    if deepmind is None:
        print("surface-distance cannot be installed here", file=sys.stderr)
        return found
    same("surface-distance", ours["surfel"](), deepmind())
    return found + [
        row
        for kind, way in ours.items()
        for row in timed(f"{kind}, {name}", {"medseg": way, "surface-distance": deepmind}, repeats)
    ]


def strays(name: str, shape: tuple, n: int, spacing: tuple, repeats: int) -> list[dict]:
    """`theirs` is medseg without the strays: the ratio is how much of the speed is left."""
    pred, ref = pair(shape, n, spacing)
    far = pred.copy(order="K")
    rng = np.random.default_rng(0)
    for value in range(1, n + 1):  # a voxel each in the farthest corner region
        corner = [m - 3 if x < m / 2 else 0 for x, m in zip(np.argwhere(ref == value).mean(0), shape, strict=True)]
        far[tuple(np.array(corner) + rng.integers(0, 3, 3))] = value
    return [
        row
        for kind in ("border", "surfel")
        for row in timed(
            f"{kind}, {name}, a stray voxel far from each",
            {
                "medseg": lambda kind=kind: medseg(far, ref, spacing, kind),
                "medseg without the strays": lambda kind=kind: medseg(pred, ref, spacing, kind),
            },
            repeats,
        )
    ]


def medseg(pred: np.ndarray, ref: np.ndarray, spacing: tuple, definition: str) -> list[tuple]:
    """Per structure (HD, HD95, NSD at 1 mm, NSD at 2 mm)."""
    found = surface_metrics(pred, ref, spacing_mm=spacing, definition=definition)
    return [(m.hd_mm, m.percentiles_mm[95], m.nsd[1], m.nsd[2]) for m in found.values()]


def deepmind_on(pred: np.ndarray, ref: np.ndarray, spacing: tuple, n: int):
    module = peer("surface_distance", "surface_distance_based_measures==0.1")

    def measure() -> list[tuple]:
        out = []
        for value in range(1, n + 1):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = module.compute_surface_distances(ref == value, pred == value, spacing)
            module.compute_average_surface_distance(found)
            hd = (module.compute_robust_hausdorff(found, percent) for percent in (100, 95))
            out.append((*hd, *(module.compute_surface_dice_at_tolerance(found, mm) for mm in (1, 2))))
        return out

    return module and measure


def monai_on(pred: np.ndarray, ref: np.ndarray, spacing: tuple, n: int):
    import torch
    from monai.metrics import (
        compute_average_surface_distance,
        compute_hausdorff_distance,
        compute_surface_dice,
    )

    p, r = (torch.from_numpy(np.stack([m == v for v in range(1, n + 1)]))[None] for m in (pred, ref))
    keep = {"include_background": True, "spacing": list(spacing)}

    def measure() -> list[tuple]:
        hd, hd95 = (compute_hausdorff_distance(p, r, percentile=percent, **keep) for percent in (None, 95))
        compute_average_surface_distance(p, r, symmetric=True, **keep)
        nsd = compute_surface_dice(p, r, [1.0] * n, **keep)
        return [(*(x.item() for x in one), None) for one in zip(hd[0], hd95[0], nsd[0], strict=True)]

    return measure


def same(what: str, ours: list[tuple], theirs: list[tuple]) -> None:
    for mine, other in zip(ours, theirs, strict=False):  # MONAI may be given fewer
        for a, b in zip(mine, other, strict=True):
            if b is not None and abs(a - b) > 1e-4:
                raise SystemExit(f"medseg and {what} disagree: {mine} and {other}")


def pair(shape: tuple, n: int, spacing: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and reference, uint8 in NIfTI's order: lumpy ellipsoids, the prediction's surface about 1 mm beside.

    One alone spans two thirds of the volume, three somewhat less, twenty a fifth on average.
    """
    size, rng = np.array(shape) * spacing, np.random.default_rng(0)
    pred, ref = np.zeros(shape, np.uint8, order="F"), np.zeros(shape, np.uint8, order="F")
    low, high = {1: (0.3, 0.36), 3: (0.18, 0.26)}.get(n, (0.05, 0.14))
    for value in range(1, n + 1):
        radii = rng.uniform(low, high, 3) * size
        centre = (rng.uniform(0.2, 0.8, 3) if n > 1 else 0.5) * size
        start = np.maximum(0, (centre - 1.5 * radii - 4) / spacing).astype(int)
        stop = np.minimum(shape, (centre + 1.5 * radii + 4) / spacing + 1).astype(int)
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        axes = zip(np.ogrid[box], spacing, centre, radii, strict=True)
        outward = np.sqrt(sum(((x * s - c) / r) ** 2 for x, s, c, r in axes)) - 1  # 0 on the ellipsoid
        outward -= 0.1 * smooth(rng, stop - start, radii / 2 / spacing)
        ref[box][outward < 0] = value
        pred[box][outward * radii.mean() < smooth(rng, stop - start, 4 / np.array(spacing))] = value
    return pred, ref


def smooth(rng: np.random.Generator, shape: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Noise of standard deviation 1 with features of `sigma` voxels."""
    step = np.maximum(1, sigma // 2)
    coarse = gaussian_filter(rng.standard_normal((shape / step).astype(int) + 3), sigma / step)
    fine = zoom(coarse / coarse.std(), np.array(shape) / coarse.shape, order=1)
    return fine[tuple(slice(0, m) for m in shape)]


# --- memory -------------------------------------------------------------------------------------------------------


def memory(name: str) -> list[dict]:
    mine, *others = (
        float(subprocess.run([sys.executable, __file__, who, name], capture_output=True, text=True, check=True).stdout)
        for who in ("medseg", "MONAI", "surface-distance")
    )
    return [
        {"case": f"peak memory, {name} ({who}: one of them)", "peer": who, "ratio": theirs / mine}
        | {"medseg": mine, "theirs": theirs, "unit": "MiB"}
        for who, theirs in zip(("MONAI, HD95", "surface-distance"), others, strict=True)
        if theirs
    ]


def peak_mib(who: str, shape: tuple, n: int, spacing: tuple) -> float:
    """MiB above what this process holds beforehand; 0 where the peer is not there. For a fresh process only (Linux)."""
    pred, ref = pair(shape, n, spacing)
    small = pair((32, 32, 32), 1, (1, 1, 1))
    run = {"medseg": medseg_border, "MONAI": monai_hd95, "surface-distance": deepmind_one}[who]
    if not run(*small, (1, 1, 1)):
        return 0.0
    ctypes.CDLL(None).malloc_trim(0)  # what was freed is the system's again and counts when it is taken anew
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak so far
    before = resident("VmRSS")
    run(pred, ref, spacing)
    return max(resident("VmHWM") - before, 1 / 1024)


def resident(what: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"{what}:\s+(\d+) kB", status).group(1)) / 1024


def medseg_border(pred: np.ndarray, ref: np.ndarray, spacing: tuple) -> bool:
    return bool(medseg(pred, ref, spacing, "border"))


def monai_hd95(pred: np.ndarray, ref: np.ndarray, spacing: tuple) -> bool:
    torch, metrics = importlib.import_module("torch"), importlib.import_module("monai.metrics")
    p, r = (torch.from_numpy(np.ascontiguousarray(m == 1))[None, None] for m in (pred, ref))
    metrics.compute_hausdorff_distance(p, r, include_background=True, percentile=95, spacing=list(spacing))
    return True


def deepmind_one(pred: np.ndarray, ref: np.ndarray, spacing: tuple) -> bool:
    measure = deepmind_on(pred, ref, spacing, 1)
    return bool(measure and measure())


if __name__ == "__main__":
    print(peak_mib(sys.argv[1], *(QUICK | CASES)[sys.argv[2]][:3]))
