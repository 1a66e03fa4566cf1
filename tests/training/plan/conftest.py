"""Small datasets on disk whose numbers are known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path


def save(array: np.ndarray, path: Path, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)) -> Path:
    """One NIfTI file in RAS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


class Maker:
    """Writes cases of noise with labelled blocks."""

    save = staticmethod(save)

    def __init__(self, root: Path) -> None:
        self.root = root

    def case(self, name: str, n: int, shape=(24, 24, 24), spacing=(1.0, 1.0, 1.0), labels=None, image=None, channels=1):
        rng = np.random.default_rng(n)
        if labels is None:
            labels = np.zeros(shape, np.uint8)
            labels[4:14, 6:16, 8:18] = 1
            labels[15:20, 6:16, 8:18] = 2
        if image is None:
            image = 100 + 50 * (labels > 0) + rng.normal(0, 10, labels.shape)
        for c in range(channels):
            end = f"_{c:04d}" if channels > 1 else ""
            save((image + c).astype(np.float32), self.root / "imagesTr" / f"{name}{end}.nii.gz", spacing)
        return save(labels, self.root / "labelsTr" / f"{name}.nii.gz", spacing)

    def say(self, **content) -> Path:
        path = self.root / "dataset.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    def split(self, train, val, name="splits.json") -> Path:
        path = self.root / name
        path.write_text(json.dumps({"train": train, "val": val}), encoding="utf-8")
        return path


@pytest.fixture(scope="session")
def maker_at():
    """`maker_at(folder)`: a `Maker` for fixtures of a wider scope."""
    return Maker


@pytest.fixture(scope="session")
def parts():
    """`parts(bundle, data, *keys)`: built components of a bundle's train.json, on this data."""
    from medseg.bundle.config import read_config
    from medseg.bundle.load import build, open_config

    def made(bundle, data, *keys):
        config, metadata = read_config(bundle, "train"), read_config(bundle, "metadata")
        parser = open_config(bundle, config, metadata, overrides={"dataset_dir": str(data)})
        return [build(parser, (key,), bundle) for key in keys]

    return made


@pytest.fixture
def maker(tmp_path) -> Maker:
    return Maker(tmp_path / "data")


@pytest.fixture(scope="module")
def blocks(tmp_path_factory) -> Path:
    """Six sound cases of 24^3 voxels of 1 mm with two blocks each, named by dataset.json as left and right kidney."""
    made = Maker(tmp_path_factory.mktemp("blocks") / "data")
    for n in range(6):
        made.case(f"block_{n}", n)
    made.say(channel_names={"0": "T2"}, labels={"background": 0, "kidney left": 1, "kidney right": 2}, name="Blocks")
    return made.root


@pytest.fixture
def fact():
    """`fact(shape=..., spacing=..., forms={1: form}, low=, high=, zeros=)`: facts of a case that never was on disk."""
    from medseg.training.plan.look import Facts, Grey
    from medseg.training.plan.shape import Form

    def make(
        shape=(100, 100, 100), spacing=(1.0, 1.0, 1.0), forms=None, low=0.0, high=1000.0, zeros=0.0, name="a", **more
    ):
        plain = Form(1000, (1.0,), 5.0, tube=False, size_mm=(10.0, 10.0, 10.0))
        values = more.pop("values", np.linspace(low, high, 1000, dtype=np.float32))
        grey = tuple(Grey(low, high, zeros, values) for _ in range(more.pop("channels", 1)))
        return Facts(name, shape, spacing, grey, {1: plain} if forms is None else forms, name, **more)

    return make
