"""Made-up scans that compress like real ones."""

from __future__ import annotations

import numpy as np


def ct(shape: tuple[int, int, int]) -> np.ndarray:
    """(I, J, K) int16: a body with lungs and a spine, noisy in air and tissue, the scanner's padding around its circle.

    157 MB at 512 x 512 x 300, 55 MB gzipped, about what a scan of the chest comes to.
    """
    rng = np.random.default_rng(0)
    i, j, k = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    circle, body = (i**2 + j**2 < 1)[..., 0], (i**2 / 0.7 + j**2 / 0.4 < 1)[..., 0]
    spine = ((i / 0.12) ** 2 + ((j - 0.42) / 0.12) ** 2 < 1)[..., 0]
    lungs = ((np.abs(i) - 0.4) / 0.28) ** 2 + (j / 0.45) ** 2 + (k / 0.9) ** 2 < 1
    still = np.where(spine, 300.0, np.where(body, 40.0, -1000.0))
    out = np.empty(shape, np.int16, order="F")
    for n in range(shape[2]):
        noise = rng.normal(0, 1, shape[:2])
        noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) / np.sqrt(3)  # reconstruction blurs it
        hu = np.where(lungs[:, :, n], -850.0, still) + noise * np.where(body, 12.0, 4.0)
        out[:, :, n] = np.where(circle, np.maximum(hu, -1024), -1024)
    return out


def organs(shape: tuple[int, int, int]) -> np.ndarray:
    """(I, J, K) uint8: twenty balls."""
    rng, labels = np.random.default_rng(0), np.zeros(shape, np.uint8, order="F")
    i, j, k = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    for value in range(1, 21):
        (x, y, z), radius = rng.uniform(-0.7, 0.7, 3), rng.uniform(0.1, 0.3)
        labels[(i - x) ** 2 + (j - y) ** 2 + (k - z) ** 2 < radius**2] = value
    return labels
