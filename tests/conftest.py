"""What all tests share: where the real scans are, and a Hypothesis profile that is the same everywhere."""

from __future__ import annotations

import os
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
def data():
    """`data("hippocampus")`: the folder of one set of real scans; skips with the reason where it is absent."""

    def find(name: str) -> Path:
        folder = data_root() / name
        if not folder.exists():
            pytest.skip(f"real scans absent: {folder.name} (set MEDSEG_DATA)")
        return folder

    return find


@pytest.fixture(autouse=True)
def _needs_gpu(request):
    """A test marked `gpu` is skipped where there is none."""
    if request.node.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("gpu: none on this machine")


def pytest_sessionfinish(session):
    """In CI (CI=true) nothing is skipped in silence: only a missing GPU excuses a test."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("CI", "").lower() not in ("1", "true"):
        return
    reasons = [str(r.longrepr[-1]) for r in reporter.stats.get("skipped", []) if isinstance(r.longrepr, tuple)]
    unexcused = [reason for reason in reasons if "gpu" not in reason.lower()]
    if unexcused:
        reporter.ensure_newline()
        reporter.write_line(
            f"CI: {len(unexcused)} skipped tests without a GPU for a reason count as a failure", red=True
        )
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
