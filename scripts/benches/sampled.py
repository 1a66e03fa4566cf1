"""Samples of a bundle on labelled cases, kept in memory: what calibration is fitted and scored on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medseg.bundle.config import read_config
from medseg.geometry import Grid
from medseg.inferers.moments import Moments
from medseg.inferers.sliding import SlidingWindowInferer
from medseg.metrics.regions import near
from medseg.readers.open import read
from medseg.resample import resample_labels
from medseg.training.calibrate import fit_dice, fit_temperature
from medseg.training.datalist import datalist
from medseg.workflows.doubt import agreement
from medseg.workflows.sampling import sampler, walker
from medseg.workflows.segment import prepare

#: Calibration is fitted and scored in the predicted foreground and so far around it: a region that the reference has a
#: say in selects voxels by being wrong, and no probabilities are calibrated there (`calibration_by_region`).
BAND_MM = 2.0


@dataclass(frozen=True, eq=False)
class Sampled:
    """One case.

    Args:
        name: of the case.
        logits: (T, K, I, J, K) float32 of each sample, on the network's grid.
        ref: (I, J, K) uint8 reference on that grid.
        spacing_mm: of that grid.
    """

    name: str
    logits: np.ndarray
    ref: np.ndarray
    spacing_mm: tuple[float, float, float]

    def at(self, temperature: float):
        """Statistics of the samples at a temperature (`medseg.inferers.Uncertainty`)."""
        count, channels, *space = self.logits.shape
        moments = Moments(space, channels, count, temperature=temperature)
        where = tuple(slice(0, n) for n in space)
        for t in range(count):
            moments.add(where, torch.from_numpy(self.logits[t].copy()), t)
        return moments.result()

    def voxels(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits (T, K, N) and truth (N,) of the predicted foreground and 2 mm around it."""
        pred = self.at(1.0).labels.numpy()
        inside = near(pred, pred, BAND_MM, spacing_mm=self.spacing_mm)
        return self.logits[:, :, inside], self.ref[inside].astype(np.int64)


def cases(bundle, data: Path, limit: int | None = None) -> list[dict]:
    """The bundle's validation cases: image and label."""
    held_out = read_config(bundle.root, "train").get("validation", [])
    return datalist(str(data.resolve()), "val", held_out)[:limit]


@torch.no_grad()
def collect(rows: list[dict], bundle, method=None, points=None, worsen=None) -> list[Sampled]:
    """Every case with every sample.

    Args:
        rows: of `cases`.
        bundle: whose network and sliding window.
        method: of `parse_method`; None: one pass.
        points: network -> its sampler, in place of the method's.
        worsen: (voxels (I, J, K), number of the case) -> voxels, before the network sees them.
    """
    out = []
    settings = walker(bundle)
    single = SlidingWindowInferer(settings.roi_size, settings.overlap, mode=settings.mode, precision="fp32")
    for number, row in enumerate(rows):
        image = prepare(read(row["image"]), bundle)["image"]
        grid = Grid(tuple(image.shape[1:]), image.affine.cpu().numpy())
        label = read(row["label"])
        ref = resample_labels(label.array.astype(np.uint8), label.grid, grid)
        batch = image.as_tensor()[None]
        if worsen is not None:
            batch = torch.from_numpy(worsen(batch[0, 0].numpy(), number).astype(np.float32))[None, None]
        if method is None:
            logits = single(batch, bundle.network)
        else:
            source = points(bundle.network) if points else sampler(method, bundle, grid.affine)
            logits = single(batch, lambda windows, s=source: torch.cat(list(s.samples(windows, range(s.count))), 1))
        stacked = logits[0].unflatten(0, (-1, 1 + len(bundle.labels))).numpy()
        out.append(Sampled(Path(row["label"]).name.split(".")[0], stacked, ref, grid.spacing_mm))
    return out


def dice_of(pred: np.ndarray, ref: np.ndarray, value: int) -> float:
    a, b = pred == value, ref == value
    both = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / both if both else 1.0


def fitted_temperature(some: list[Sampled]) -> float:
    return fit_temperature([case.voxels() for case in some])


def agreements(case: Sampled, temperature: float, values: list[int]) -> dict[int, tuple[float, float]]:
    """Structure -> (agreement of the samples, Dice of their mean)."""
    found = case.at(temperature)
    pred = found.labels.numpy()
    return {v: (agreement(found.votes[v - 1].numpy(), found.samples), dice_of(pred, case.ref, v)) for v in values}


def fitted_dice(some: list[dict[int, tuple[float, float]]]) -> dict[int, tuple[float, float]]:
    values = some[0]
    return {v: fit_dice([x[v][0] for x in some], [x[v][1] for x in some]) for v in values}
