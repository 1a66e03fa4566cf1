"""Small scans and a small recipe for everything that trains together."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_cubes(root: Path, numbers: range, *, shift: float = 0.0, prefix: str = "cube") -> Path:
    """Noisy 16^3 cubes whose two halves are labelled 1 and 2; `shift` moves every grey value."""
    import nibabel as nib
    import numpy as np

    for n in numbers:
        rng = np.random.default_rng(n)
        label = np.zeros((16, 16, 16), np.uint8)
        i, j, k = rng.integers(2, 6, 3)
        label[i : i + 8, j : j + 4, k : k + 8], label[i : i + 8, j + 4 : j + 8, k : k + 8] = 1, 2
        image = 100.0 + 40.0 * label + rng.normal(0, 5, label.shape) + shift
        for sub, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label)):
            (root / sub).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / sub / f"{prefix}_{n:02d}.nii.gz")
    return root


@pytest.fixture(scope="session")
def cubes() -> Callable[..., Path]:
    """`cubes(folder, range(5), shift=20.0)`: write labelled scans."""
    return write_cubes


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory) -> Path:
    """The shipped recipe with a network, a patch and batches that train in a second, the same in both configs."""
    from medseg.bundle.shipped import find_bundle

    root = tmp_path_factory.mktemp("recipe") / "cubes_segmentation"
    shutil.copytree(find_bundle("hippocampus_mri_segmentation"), root, ignore=shutil.ignore_patterns("models"))
    for name in ("train", "inference"):
        path = root / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["network_def"] |= {"features": [4, 8, 8], "deep_supervision": 1}
        if name == "train":
            config |= {"patch_size": [16, 16, 16], "val_interval": 1000}
            kept = ("RandFlipd", "RandGaussianNoised", "EnsureTyped")
            config["train"]["random_transforms"] = [
                one for one in config["train"]["random_transforms"] if one["_target_"] in kept
            ]
        path.write_text(json.dumps(config), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def kits(tmp_path_factory, small_recipe) -> Path:
    """Kits of a server on this machine, three sites and a lead; the bundle agreed on is `small_recipe`. Only to look at."""
    import socket

    from medseg.federated.kits.prepare import prepare

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("kits")
    sites = "".join(f"  - {{name: site-{n}, organisation: hospital_{n}}}\n" for n in (1, 2, 3))
    (folder / "project.yaml").write_text(
        f"name: cubes\nserver: {{host: localhost, port: {port}, organisation: uni}}\nsites:\n{sites}"
        "admins:\n  - {email: lead@example.org, organisation: uni}\n"
        "  - {email: member@example.org, organisation: uni, role: member}\n",
        encoding="utf-8",
    )
    prepare(folder / "project.yaml", folder / "made", bundle=small_recipe)
    return folder / "made"
