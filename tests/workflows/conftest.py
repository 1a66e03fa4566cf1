"""Scans whose right segmentation by the toy bundle is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.volume import Volume
from medseg.writers.nifti import write_nifti

if TYPE_CHECKING:
    from pathlib import Path


def blocks(seed: int = 0, shape=(20, 22, 18)) -> np.ndarray:
    """A noisy background below 0.2, a dim block (0.5), a bright block (1.0) and a lone bright voxel, float32."""
    array = np.random.default_rng(seed).random(shape, dtype=np.float32) * 0.2
    array[0, 0, 0] = 0
    array[4:9, 4:9, 4:9] = 0.5
    array[11:16, 12:17, 6:12] = 1.0
    array[2, 2, 15] = 1.0
    return array


@pytest.fixture(scope="session")
def truth():
    """`truth(array)`: what the toy bundle gives for `blocks`; the lone bright voxel is cleaned away."""

    def labels_of(array: np.ndarray) -> np.ndarray:
        labels = ((array > 0.4).astype(np.uint8) + (array > 0.7)).astype(np.uint8)
        labels[2, 2, 15] = 0
        return labels

    return labels_of


AFFINE = np.array([[-1.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1]])


@pytest.fixture
def scan() -> Volume:
    return Volume(blocks(), AFFINE)


@pytest.fixture
def scans(tmp_path) -> Path:
    """A folder with a.nii.gz, b.nii.gz, c.nii.gz."""
    for seed, name in enumerate("abc"):
        write_nifti(tmp_path / "scans" / f"{name}.nii.gz", blocks(seed), AFFINE)
    return tmp_path / "scans"


@pytest.fixture(scope="session")
def toy(toy_bundle):
    """The toy bundle, loaded."""
    from medseg.bundle.load import load_bundle

    return load_bundle(toy_bundle)
