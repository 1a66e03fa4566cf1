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


@pytest.fixture
def server(small_recipe, tmp_path) -> Callable[..., tuple[Path, list[str]]]:
    """`server(algorithm, sites)`: run a controller to its end; gives its folder, and what it warned of and panicked with.

    Sites are functions of (task name, DXO) to a Shareable or None, and answer at once, in this process.
    """
    from types import SimpleNamespace

    import yaml
    from nvflare.apis.client import Client
    from nvflare.apis.controller_spec import ClientTask
    from nvflare.apis.dxo import from_shareable
    from nvflare.apis.fl_constant import FLContextKey
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.signal import Signal

    from medseg.federated.bundle_hash import bundle_hash
    from medseg.federated.controller import MedsegController

    class Wire:
        """NVFLARE's task manager."""

        controller = None

        def __init__(self, sites):
            self.sites = sites

        def broadcast(self, task, fl_ctx, targets=None, min_responses=1, wait_time_after_min_received=0):
            for name in targets:
                one = ClientTask(Client(name, "token"), task)
                task.after_task_sent_cb(client_task=one, fl_ctx=fl_ctx)
                one.result = self.sites[name](task.name, from_shareable(task.data))
                if one.result is not None:
                    task.result_received_cb(client_task=one, fl_ctx=fl_ctx)

        def cancel_task(self, task, completion_status=None, fl_ctx=None):
            pass

        def cancel_all_tasks(self, completion_status=None, fl_ctx=None):
            pass

        def get_client_disconnect_time(self, name):
            return None

    def run(how, sites, **said):
        wire = Wire(sites)
        local = tmp_path / "local"
        local.mkdir(exist_ok=True)
        content = {"bundle": str(small_recipe), "work": str(tmp_path / "kept")}
        (local / "medseg_site.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        asked = {"bundle_hash": bundle_hash(small_recipe), **said}
        controller = MedsegController(small_recipe.name, algorithm=how.to_json(), **asked)
        controller.communicator = wire
        controller._engine = SimpleNamespace(get_clients=lambda: [Client(name, "token") for name in wire.sites])
        told = []
        controller.system_panic = lambda reason, fl_ctx: told.append(reason)
        controller.log_warning = lambda fl_ctx, text, **_: told.append(text)
        context = FLContext()
        workspace = SimpleNamespace(
            get_root_dir=lambda: str(tmp_path),
            get_site_config_dir=lambda: str(local),
            get_run_dir=lambda job: str(tmp_path / "job"),
        )
        context.set_prop(FLContextKey.WORKSPACE_OBJECT, workspace, private=True)
        controller.control_flow(Signal(), context)
        return tmp_path / "kept" / "run", told

    return run
