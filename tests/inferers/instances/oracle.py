"""Volumes whose instances are known, and networks that know them: the truth, seen in a tile, with noise.

A volume is a float tensor (1, 3, D, H, W): the truth's ids, noise that is fixed in the volume, and a hash of the voxel's
place, by which a network can draw noise of its own for each tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from medseg.inferers.instances.found import Instances, MaskCrop


def volume(ids: np.ndarray, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal(ids.shape), 1.0)
    parts = [ids.astype(np.float32), noise / noise.std(), rng.random(ids.shape)]
    return torch.from_numpy(np.stack(parts).astype(np.float32))[None]


@dataclass(frozen=True)
class Knower:
    """Sees every instance of a tile: what is left of it there, as one piece.

    Args:
        fixed: how much the noise of the volume changes probabilities.
        drawn: how much noise that is another in each tile does.
        jitter: of box edges, voxels, another in each tile.
        faint: voxels within which a tile's own faces make everything unsure (probabilities halve there).
        spread: of scores.
        least: voxels of the smallest instance that is seen.
        connected: whether an instance that a tile sees in two parts is two.
    """

    fixed: float = 0.0
    drawn: float = 0.0
    jitter: float = 0.0
    faint: int = 0
    spread: float = 0.0
    least: int = 1
    connected: bool = False
    classes: int = 3

    def __call__(self, tile: torch.Tensor) -> Instances:
        ids, noise, place = tile[0].numpy()
        ids = ids.astype(np.int64)
        rng = np.random.default_rng(int(place.astype(np.float64).sum() * 1e3) % 2**32)
        parts = self._parts(ids)
        boxes, scores, classes, masks = [], [], [], []
        for number, mask in parts:
            if mask.sum() < self.least:
                continue
            exact = ndimage.find_objects(mask.astype(np.uint8))[0]
            where = tuple(
                slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(exact, mask.shape, strict=True)
            )
            probability = self._probability(mask, where, noise, rng)
            jitter = self.jitter * rng.uniform(-1, 1, 6)
            box = np.array([[s.start, s.stop] for s in exact]).T.ravel() + jitter
            boxes.append(np.clip(box, 0, [*mask.shape, *mask.shape]))
            scores.append(0.9 - self.spread * rng.random())
            classes.append(number % self.classes)
            low = tuple(s.start for s in where)
            masks.append(MaskCrop(low, torch.from_numpy(probability.astype(np.float32))))
        return Instances(
            torch.tensor(np.array(boxes).reshape(-1, 6)).float(),
            torch.tensor(scores).float(),
            torch.tensor(classes).long(),
            masks,
        )

    def _parts(self, ids: np.ndarray) -> list[tuple[int, np.ndarray]]:
        found = []
        for number in np.unique(ids[ids > 0]).tolist():
            mask = ids == number
            if self.connected:
                labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
                found += [(number, labels == n) for n in range(1, count + 1)]
            else:
                found.append((number, mask))
        return found

    def _probability(self, mask: np.ndarray, where: tuple, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        inside = ndimage.distance_transform_edt(mask[where])
        signed = inside - ndimage.distance_transform_edt(~mask[where])
        logit = 2 * signed - np.sign(signed)  # 1 at the first voxel inside
        logit = logit + self.fixed * noise[where] + self.drawn * rng.standard_normal(logit.shape)
        probability = 1 / (1 + np.exp(-logit))
        if self.faint:
            grid = np.indices(mask.shape)[(slice(None), *where)]
            shape = np.array(mask.shape)[:, None, None, None]
            near = np.minimum(grid, shape - 1 - grid).min(0) < self.faint
            probability = np.where(near, probability / 2, probability)
        return probability


def scene(shape: tuple, count: int, seed: int, *, radii: tuple = (1.5, 7)) -> np.ndarray:
    """Ellipsoids that do not overlap but may touch, some cut by the volume's border."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(shape, np.int64)
    grid = np.indices(shape).reshape(3, -1).T
    number = tries = 0
    while number < count and tries < 50 * count:
        tries += 1
        radius = rng.uniform(*radii, 3)
        centre = rng.uniform(0, 1, 3) * shape
        inside = ((((grid + 0.5 - centre) / radius) ** 2).sum(1) <= 1).reshape(shape)
        if inside.sum() >= 8 and not ids[inside].any():
            number += 1
            ids[inside] = number
    return ids


def compared(a: np.ndarray, b: np.ndarray) -> list[float]:
    """The IoU of every id of `a` with the id of `b` that it meets most."""
    out = []
    for number in np.unique(a[a > 0]):
        mask = a == number
        partner = np.bincount(b[mask]).argmax() if b[mask].any() else -1
        other = b == partner
        out.append((mask & other).sum() / (mask | other).sum())
    return out
