"""No dependency is taken in a version with a published hole: floors in pyproject.toml, pins above them, nothing below.

Advisories behind the floors: monai < 1.6.1 archives, pickles and logging configs that run code (GHSA-x6ww-pf9m-m73m,
GHSA-6vm5-6jv9-rjpj, GHSA-9rg3-9pvr-6p27, GHSA-wvpx-5qmp-46g3); torch < 2.10 weights_only corrupts memory (CVE-2026-24747);
pydicom < 3.0.2 DICOMDIR leads out of its folder (CVE-2026-32711); nvflare < 2.7.2 deserialisation (CVE-2026-24186).
"""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
#: Library -> (lowest version without a hole, the highest that has one).
FLOORS = {
    "monai": ("1.6.1", "1.6.0"),
    "torch": ("2.10", "2.9.99"),
    "pydicom": ("3.0.2", "3.0.1"),
    "nvflare": ("2.7.2", "2.7.1"),
}


def asked() -> dict[str, list[Requirement]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, list[Requirement]] = {}
    for lines in (project["dependencies"], *project["optional-dependencies"].values()):
        for one in map(Requirement, lines):
            found.setdefault(canonicalize_name(one.name), []).append(one)
    return found


@pytest.mark.parametrize("name", FLOORS)
def test_no_version_with_a_hole_may_be_installed(name):
    floor, holed = FLOORS[name]
    wanted = asked()[name]
    assert wanted
    for one in wanted:
        assert not one.specifier.contains(holed, prereleases=True), str(one)
        lowest = max(Version(s.version) for s in one.specifier if s.operator in (">=", "==", "~="))
        assert lowest >= Version(floor), str(one)


@pytest.mark.parametrize("name", FLOORS)
def test_what_ci_installs_is_above_the_floor(name):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(a): b for a, _, b in (line.partition("==") for line in lines) if b}
    assert Version(pins[name]) >= Version(FLOORS[name][0])


@pytest.mark.parametrize("name", FLOORS)
def test_what_runs_here_is_above_the_floor(name):
    assert Version(metadata.version(name)) >= Version(FLOORS[name][0])


def test_every_dependency_has_a_floor():
    loose = [
        str(one)
        for name, wanted in asked().items()
        for one in wanted
        if name != "medseg" and not any(s.operator in (">=", "==", "~=") for s in one.specifier)
    ]
    assert loose == []
