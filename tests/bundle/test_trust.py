"""Trust: given by hand, bound to every byte, withdrawn by any change, and only then does a bundle's code run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from medseg.bundle.load import load_bundle
from medseg.bundle.trust import fingerprint, is_trusted, settings_dir, trust_bundle
from medseg.errors import BundleError

NET = """
from monai.networks.nets import UNet


class Net(UNet):
    marker = "first"
"""


@pytest.fixture
def scripted(zoo, edit):
    """A bundle whose network is its own code."""
    (zoo / "scripts").mkdir()
    (zoo / "scripts" / "__init__.py").write_text("", encoding="utf-8")
    (zoo / "scripts" / "net.py").write_text(NET, encoding="utf-8")
    return edit(zoo, "inference", lambda c: c["network_def"].update(_target_="scripts.net.Net"))


def test_code_runs_only_with_trust(scripted):
    with pytest.raises(BundleError, match="medseg bundle trust"):
        load_bundle(scripted)
    assert "scripts.net" not in sys.modules
    trust_bundle(scripted)
    bundle = load_bundle(scripted)
    assert bundle.trusted
    assert bundle.network.marker == "first"
    assert str(scripted) not in sys.path


@pytest.mark.parametrize("change", ["edit", "add", "remove", "weights", "bit"])
def test_any_change_withdraws_trust(scripted, change):
    trust_bundle(scripted)
    if change == "edit":
        (scripted / "scripts" / "net.py").write_text(NET + "\n", encoding="utf-8")
    elif change == "add":
        (scripted / "scripts" / "other.py").write_text("", encoding="utf-8")
    elif change == "remove":
        (scripted / "LICENSE").unlink()
    elif change == "bit":
        path = scripted / "models" / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    else:
        path = scripted / "models" / "model.pt"
        path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BundleError, match="has changed since") as caught:
        load_bundle(scripted)
    assert caught.value.code == "MS-B142"
    trust_bundle(scripted)
    assert is_trusted(scripted)


def test_trusted_code_is_read_fresh(scripted):
    trust_bundle(scripted)
    load_bundle(scripted)
    (scripted / "scripts" / "net.py").write_text(NET.replace("first", "second"), encoding="utf-8")
    trust_bundle(scripted)
    assert load_bundle(scripted).network.marker == "second"
    assert not list(scripted.rglob("__pycache__"))


def test_a_planted_python_cache_is_not_believed(scripted):
    """A .pyc is no part of the fingerprint, so it must not be run either."""
    import importlib.util
    import py_compile

    evil = scripted.parent / "evil.py"
    evil.write_text(NET.replace("first", "evil"), encoding="utf-8")
    source = scripted / "scripts" / "net.py"
    trust_bundle(scripted)
    cache = Path(importlib.util.cache_from_source(str(source)))
    cache.parent.mkdir()
    py_compile.compile(str(evil), cfile=str(cache), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    assert load_bundle(scripted).network.marker == "first"


def test_another_bundle_is_not_trusted(scripted, build, tmp_path):
    trust_bundle(scripted)
    assert not is_trusted(build.write_bundle(tmp_path / "other_segmentation"))


def test_fingerprint_covers_every_file(zoo):
    files = {p.relative_to(zoo).as_posix() for p in zoo.rglob("*") if p.is_file()}
    assert set(fingerprint(zoo)) == files


def test_where_it_is_kept(zoo, own_settings):
    trust_bundle(zoo)
    kept = settings_dir() / "trusted.json"
    assert own_settings in kept.parents
    assert list(json.loads(kept.read_text(encoding="utf-8"))) == [str(zoo.resolve())]


@pytest.mark.parametrize(
    ("platform", "ending"),
    [("win32", "medseg"), ("darwin", "Library/Application Support/medseg"), ("linux", "medseg")],
)
def test_settings_folder_of_each_system(platform, ending, monkeypatch, own_settings):
    monkeypatch.setattr(sys, "platform", platform)
    assert settings_dir().as_posix().endswith(ending)
    assert own_settings in settings_dir().parents


def test_broken_settings_are_named(zoo):
    settings_dir().mkdir(parents=True)
    (settings_dir() / "trusted.json").write_text("{", encoding="utf-8")
    with pytest.raises(BundleError, match=r"MS-B143 .*trusted\.json"):
        load_bundle(zoo)
