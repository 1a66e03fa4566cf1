"""Does the agreement of samples find the bad cases? The hippocampus validation cases, worsened as scans are in practice.

The 40 cases as they are have a true Dice of 0.81 to 0.94, and most of that is how their references were drawn: no
prediction can follow it (`scripts/bench uncertainty`). Here each case is worsened in one of four ways, by a severity drawn
evenly from none to far beyond what is usable, so that there is something to find. References stay as they are. Fitted on
one half of the cases and scored on the other, then the other way round.
"""

from __future__ import annotations

import sys

import numpy as np
from sampled import cases, collect
from scipy.ndimage import gaussian_filter
from uncertainty import BUNDLE, hippocampus, row, scored

from medseg.bundle.load import load_bundle
from medseg.workflows.method import parse_method

WAYS = ("mc", "tta", "ensemble")


def rows(quick: bool = False) -> list[dict]:
    bundle = load_bundle(BUNDLE)
    listed, out = cases(bundle, hippocampus(), 6 if quick else None), []
    for name in WAYS:
        figures = scored(name, collect(listed, bundle, parse_method(name), worsen=worsened))
        interval = figures["interval"]
        sys.stderr.write(
            f"{name}: Dice {figures['dice']:.3f}, Spearman {figures['spearman']:.3f} "
            f"[{interval.low:.3f}, {interval.high:.3f}]\n"
        )
        out += [
            row(name, "Spearman, agreement and true Dice", figures["spearman"], 0.5, "goal"),
            row(name, "MAE, predicted and true Dice", figures["mae"], figures["mae constant"], "mean Dice", less=True),
            row(name, "AUROC of entropy, within 5 mm", figures["auroc near"], 0.9, "goal for scans as they are"),
        ]
    return out


def worsened(image: np.ndarray, number: int) -> np.ndarray:
    """Case `number` (I, J, K), standardised: noise, blur, thick slices or the ghost of a movement."""
    rng = np.random.default_rng(number)
    severity, spread = rng.random(), float(image.std())
    match number % 4:
        case 0:
            return image + rng.normal(0, 3 * severity * spread, image.shape)
        case 1:
            return gaussian_filter(image, 5 * severity)
        case 2:
            return thick(image, 1 + round(11 * severity), axis=int(rng.integers(3)))
        case _:
            axis = int(rng.integers(3))
            return image + severity * np.roll(image, image.shape[axis] // 5, axis)


def thick(image: np.ndarray, voxels: int, axis: int) -> np.ndarray:
    """Slices so many voxels thick along an axis, on the same grid."""
    starts = np.arange(0, image.shape[axis], voxels)
    counts = np.diff(np.append(starts, image.shape[axis]))
    shape = [-1 if n == axis else 1 for n in range(3)]
    means = np.add.reduceat(image, starts, axis) / counts.reshape(shape)
    return np.repeat(means, counts, axis)
