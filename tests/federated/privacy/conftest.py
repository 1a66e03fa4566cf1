"""A site's folder and NVFLARE's context around it, as filters see them."""

from __future__ import annotations

import pytest


@pytest.fixture
def site(tmp_path):
    """The folder of a site that lets out the weights "a" (2, 3) and "b" (4,), one metric, one structure."""
    from medseg.federated.privacy.allow_list import FILE, allow_list_of, write_allow_list

    allowed = allow_list_of({"a": (2, 3), "b": (4,)}, metrics=["val_mean_dice"], structures=["Left lung"])
    (tmp_path / "local").mkdir()
    write_allow_list(tmp_path / "local" / FILE, allowed)
    return tmp_path


@pytest.fixture
def context(site):
    """NVFLARE's context of the task "train" at that site."""
    from nvflare.apis.fl_constant import FLContextKey, ReservedKey
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.workspace import Workspace
    from nvflare.app_opt.pt.decomposers import TensorDecomposer
    from nvflare.fuel.utils import fobs

    fobs.register(TensorDecomposer)  # before any message is made: else NVFLARE writes a tensor without its values
    (site / "startup").mkdir()
    found = FLContext()
    found.set_prop(ReservedKey.RUN_NUM, "job-1", private=False)
    found.set_prop(FLContextKey.TASK_NAME, "train", private=True)
    found.set_prop(FLContextKey.WORKSPACE_OBJECT, Workspace(str(site), "site-1"), private=True)
    return found


@pytest.fixture
def update():
    """An update that this site may send, as `exchange.update_to_dxo` makes it."""
    import torch

    from medseg.federated.exchange import Update, update_to_dxo

    generator = torch.Generator().manual_seed(0)
    diff = {"a": torch.randn(2, 3, generator=generator), "b": torch.randn(4, generator=generator)}
    return update_to_dxo(Update(diff, cases=8, steps=20, metrics={"loss": 0.5}))
