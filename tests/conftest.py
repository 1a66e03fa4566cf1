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
