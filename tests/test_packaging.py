"""The wheel carries everything that the package needs elsewhere: code, bundles with weights, configs; nothing more."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout, unpacked as pip would unpack it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def elsewhere(wheel: Path, *words: str) -> subprocess.CompletedProcess:
    """Run the wheel's own `medseg`, far from the checkout."""
    env = {**os.environ, "PYTHONPATH": str(wheel)}
    command = [sys.executable, "-m", "medseg", *words]
    return subprocess.run(command, cwd=wheel.parent, env=env, capture_output=True, text=True, check=False)


def normal(requirement: str) -> str:
    """The distribution's name, as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[><=~;\s]", requirement.strip())[0]).lower()


def test_it_carries_every_file_of_the_package_and_of_the_bundles(wheel, tracked):
    for name in tracked:
        top = name.split("/")[0]
        if name.endswith(".gitkeep"):
            continue
        if top == "medseg":
            assert (wheel / name).is_file(), name
        elif top in ("bundles", "configs"):
            assert (wheel / "medseg" / "_shipped" / name).is_file(), name


def test_it_carries_nothing_else(wheel):
    assert {path.name.split("-")[0] for path in wheel.iterdir()} == {"medseg"}
    names = {path.name for path in wheel.rglob("*")}
    assert not names & {"tests", "scripts", ".git", ".gitkeep", ".ci", "docs.md", "conftest.py", "__pycache__"}


def test_elsewhere_it_finds_its_own_bundles(wheel):
    ran = elsewhere(wheel, "bundles", "--json")
    assert ran.returncode == 0, ran.stderr
    entries = json.loads(ran.stdout)
    assert [e["name"] for e in entries] == sorted(
        p.parents[1].name for p in ROOT.glob("bundles/*/configs/metadata.json")
    )
    assert all(Path(e["path"]).is_relative_to(wheel) for e in entries)
    shipped = {p.parents[1].name for p in ROOT.glob("bundles/*/models/model.safetensors")}  # the others are recipes
    assert {e["name"] for e in entries if e["weights"]} == shipped


@pytest.mark.slow
def test_elsewhere_it_runs_the_demo(wheel, tmp_path):
    ran = elsewhere(wheel, "demo", "-o", str(tmp_path / "out"))
    assert ran.returncode == 0, ran.stderr
    assert len(list((tmp_path / "out").glob("*/segmentation.nii.gz"))) == 2


@pytest.mark.parametrize(
    "script", ["scripts/demo", "scripts/test", "scripts/bench", "scripts/phantom", "scripts/venv.sh", ".ci/run"]
)
def test_scripts_are_sound_shell_and_executable(script):
    path = ROOT / script
    shell = "bash" if script == ".ci/run" else "sh"
    assert subprocess.run([shell, "-n", str(path)], check=False).returncode == 0
    assert script.endswith(".sh") or os.access(path, os.X_OK)


def test_constraints_fix_every_dependency_exactly():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(d for extra in ("demo", "docs", "export", "mlflow", "test") for d in project["optional-dependencies"][extra]),
    ]

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pinned if line.count("==") != 1 or "+" in line] == []
    assert {normal(d) for d in wanted} - {"medseg"} - {normal(line) for line in pinned} == set()


def test_every_library_that_medseg_imports_is_declared():
    import ast
    from importlib.metadata import packages_distributions

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [
        d
        for extra in ("demo", "encrypted", "export", "federated", "mlflow")
        for d in project["optional-dependencies"][extra]
    ]
    declared = {normal(d) for d in (*project["dependencies"], *extras, "medseg")}
    homes = packages_distributions()
    missing = {}
    for path in (ROOT / "medseg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for top in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"medseg"}:
                if not declared & {normal(home) for home in homes.get(top, ())}:
                    missing[top] = path.name
    assert missing == {}
