"""A finished run with every kind of output, small enough to be made often: what verify and rerun are tried on."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.networks.unet import UNet
from medseg.workflows.predict import predict
from medseg.writers.nifti import write_nifti
from tests.workflows.test_predict import write_dicom

if TYPE_CHECKING:
    from pathlib import Path

AFFINE = np.array([[-1.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Made:
    """The folders of a run: `scans` holds a.nii.gz, b.nii.gz and a DICOM series in d/."""

    place: Path

    @property
    def scans(self) -> Path:
        return self.place / "scans"

    @property
    def bundle(self) -> Path:
        return self.place / "small"

    @property
    def out(self) -> Path:
        return self.place / "out"

    def copy(self, place: Path) -> Made:
        shutil.copytree(self.place, place, dirs_exist_ok=True)
        return Made(place)

    def record(self, case: str = "") -> Path:
        return self.out / case / "record.json"

    def files(self) -> list[Path]:
        return sorted(p for p in self.out.rglob("*") if p.is_file() and p.name != ".medseg.lock")


def small_bundle(toy: Path, place: Path) -> Path:
    """The toy bundle with a real network instead: convolutions, dropout, weights drawn at random, mirrors."""
    shutil.copytree(toy, place)
    path = place / "configs" / "inference.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    shape = {"in_channels": 1, "out_channels": 3, "features": [4, 8], "dropout": 0.3}
    config |= {"network_def": {"_target_": "medseg.networks.UNet", **shape}, "uncertainty": {"mirrors": ["LR"]}}
    path.write_text(json.dumps(config), encoding="utf-8")
    torch.manual_seed(0)
    torch.save(UNet(1, 3, features=(4, 8), dropout=0.3).state_dict(), place / "models" / "model.pt")
    return place


def make(toy: Path, place: Path, **options) -> Made:
    """Make scans and a bundle at `place`, and run `predict` with these options."""
    made = Made(place)
    for seed, name in enumerate("ab"):
        array = np.random.default_rng(seed).random((20, 22, 18), dtype=np.float32) * 0.2
        array[4:9, 4:9, 4:9] = 1.0
        write_nifti(made.scans / f"{name}.nii.gz", array, AFFINE)
    write_dicom(made.scans / "d")
    small_bundle(toy, made.bundle)
    report = predict(made.scans, made.bundle, made.out, outside_domain=True, **options)
    assert report.exit_code == 0, report.failures
    return made
