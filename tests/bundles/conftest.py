"""Small bundles with random weights, see ../bundle/build.py."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def build():
    """The module that writes test bundles."""
    spec = importlib.util.spec_from_file_location("build_bundles", Path(__file__).parents[1] / "bundle" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def zoo(build, tmp_path):
    """A bundle of MONAI's own components, as the model zoo has them."""
    return build.write_bundle(tmp_path / "blobs_segmentation")


@pytest.fixture
def ours(build, tmp_path):
    """A bundle with medseg's components."""
    return build.write_bundle(tmp_path / "own_segmentation", ours=True)


@pytest.fixture
def edit():
    """`edit(root, "inference", lambda c: ...)`: change a config in place."""

    def change(root, name, action):
        path = root / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        action(config)
        path.write_text(json.dumps(config), encoding="utf-8")
        return root

    return change


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    """No test reads or writes the user's own trust."""
    for name in ("XDG_CONFIG_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "settings"))
    return tmp_path / "settings"
