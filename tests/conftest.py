"""What all tests share: where the real scans are, and a Hypothesis profile that is the same everywhere."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("default")


def data_root() -> Path:
    """`$MEDSEG_DATA`, else `../shared/data` beside the checkout."""
    return Path(os.environ.get("MEDSEG_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def tracked() -> list[str]:
    """Every file of the project, relative to its root: what git tracks, or in an unpacked archive what lies there."""
    root = Path(__file__).parents[1]
    try:
        git = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=root, check=True)
    except (OSError, subprocess.CalledProcessError):
        places = ("medseg", "bundles", "configs", "docs", "scripts", "tests")
        found = (path for place in places for path in (root / place).rglob("*") if "__pycache__" not in path.parts)
        return [path.relative_to(root).as_posix() for path in found if path.is_file()]
    return [name for name in git.stdout.split("\0") if name and (root / name).exists()]


@pytest.fixture(scope="session")
def data():
    """`data("hippocampus")`: the folder of one set of real scans; skips with the reason where it is absent."""

    def find(name: str) -> Path:
        folder = data_root() / name
        if not folder.exists():
            pytest.skip(f"real scans absent: {folder.name} (set MEDSEG_DATA)")
        return folder

    return find


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory) -> Path:
    """A complete bundle on disk whose network is plain arithmetic on the grey value x, scaled to [0, 1].

    Scores (0, x - 0.4, 2 x - 1.1) make label 0 below 0.4, 1 up to 0.7 and 2 above: the right answer is known.
    """
    import torch

    from medseg.bundle.intensity import FORM

    root = tmp_path_factory.mktemp("bundles") / "toy"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    network = {
        "_target_": "monai.networks.nets.UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "channels": [1, 1],
        "strides": [1],
        "kernel_size": 1,
        "up_kernel_size": 1,
        "act": None,
        "norm": None,
    }
    inference = {
        "bundle_root": ".",
        "device": "$torch.device('cpu')",
        "channels": ["T1w"],
        "labels": [{"value": 1, "name": "dim"}, {"value": 2, "name": "bright"}],
        "domain": {
            "modality": ["MR"],
            "anatomy": "blocks",
            "cases": 3,
            "extent_mm": [[8, 200], [8, 200], [8, 200]],
            "spacing_mm": [[0.5, 4], [0.5, 4], [0.5, 4]],
            "intensity": [{name: [-1000.0, 1000.0] for name in ("floor", *FORM)}],
            "volume_ml": {"bright": [0.01, 1000.0]},
        },
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "medseg.transforms.ToNetworkGridd", "keys": "image", "axcodes": "RAS"},
                {"_target_": "ScaleIntensityd", "keys": "image", "minv": 0.0, "maxv": 1.0},
            ],
        },
        "inferer": {
            "_target_": "medseg.inferers.SlidingWindowInferer",
            "roi_size": [16, 16, 16],
            "overlap": 0.25,
            "output": "labels",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "medseg.transforms.RestoreGridd", "keys": "pred", "ref": "image"},
                {"_target_": "medseg.transforms.CleanComponentsd", "keys": "pred", "largest": [2]},
            ],
        },
    }
    metadata = {
        "version": "0.0.1",
        "monai_version": "1.6.1",
        "pytorch_version": "2.10.0",
        "numpy_version": "2.0.0",
        "required_packages_version": {},
        "name": "toy",
        "network_data_format": {"inputs": {"image": {"num_channels": 1}}, "outputs": {"pred": {"num_channels": 3}}},
    }
    for name, data in (("inference", inference), ("metadata", metadata)):
        (root / "configs" / f"{name}.json").write_text(json.dumps(data), encoding="utf-8")
    weights = {
        "model.0.conv.weight": torch.ones(1, 1, 1, 1, 1),
        "model.0.conv.bias": torch.zeros(1),
        "model.1.submodule.conv.weight": torch.zeros(1, 1, 1, 1, 1),
        "model.1.submodule.conv.bias": torch.zeros(1),
        "model.2.conv.weight": torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]]).reshape(2, 3, 1, 1, 1),
        "model.2.conv.bias": torch.tensor([0.0, -0.4, -1.1]),
    }
    torch.save(weights, root / "models" / "model.pt")
    return root


@pytest.fixture(autouse=True)
def _needs_gpu(request):
    """A test marked `gpu` is skipped where there is none."""
    if request.node.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("gpu: none on this machine")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests that share a fixture of their module run in one of pytest's workers, so that it is made once (xdist)."""
    for item in items:
        made_by = item._fixtureinfo.name2fixturedefs.values()
        if any(one.scope == "module" for definitions in made_by for one in definitions):
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(item.config.rootpath).as_posix()))


def pytest_terminal_summary(terminalreporter):
    """What tests/faults counted, in one table: a reader sees how much was tried, and that all of it held."""
    reports = [one for of in terminalreporter.stats.values() for one in of if hasattr(one, "when")]
    seconds: dict[str, float] = {}
    for one in reports:
        seconds[one.nodeid] = seconds.get(one.nodeid, 0.0) + one.duration
    called = [one for one in reports if one.when == "call"]
    rows = [(*row, seconds[one.nodeid]) for one in called for name, row in one.user_properties if name == "count"]
    if rows:
        terminalreporter.section("what was counted")
        width = max(len(row[0]) for row in rows)
        for what, good, of, note, took in rows:
            terminalreporter.write_line(f"{what:<{width}}  {good:>3} of {of:<3}  {took:6.1f} s  {note}")


def pytest_sessionfinish(session):
    """In CI (CI=true) nothing is skipped in silence: only what a machine lacks ("gpu: ...", "machine: ...") excuses a test."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("CI", "").lower() not in ("1", "true"):
        return
    reasons = [str(r.longrepr[-1]) for r in reporter.stats.get("skipped", []) if isinstance(r.longrepr, tuple)]
    unexcused = [
        reason for reason in reasons if not reason.removeprefix("Skipped: ").startswith(("gpu: ", "machine: "))
    ]
    if unexcused:
        reporter.ensure_newline()
        reporter.write_line(
            f"CI: {len(unexcused)} skipped tests count as a failure: nothing that this machine lacks excuses them",
            red=True,
        )
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
