"""The house keeps its shape: imports flow one way, importing is cheap, and every file name works everywhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "medseg").rglob("*.py"))
POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


def python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_rooms_import_downwards_only():
    script = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([script, "--no-cache"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("statement", ["import medseg", "import medseg; medseg.Volume, medseg.InputError"])
def test_importing_medseg_loads_neither_torch_nor_monai(statement):
    assert python(f"import sys; {statement}; print([m for m in ('torch', 'monai') if m in sys.modules])") == "[]"


def test_help_loads_neither_torch_nor_monai_nor_any_scan_library():
    code = (
        "import sys; from medseg.cli.app import run; assert run(['--help']) == 0; "
        "heavy = ('torch', 'monai', 'numpy', 'nibabel', 'pydicom', 'itk', 'pandas'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    assert python(code).splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "room", ["readers.open", "writers.nifti", "resample", "volume", "cli.app", "workflows", "workflows.predict"]
)
def test_torch_free_rooms_load_without_torch(room):
    code = f"import sys, importlib; importlib.import_module('medseg.{room}'); print('torch' in sys.modules)"
    assert python(code) == "False"


def test_no_module_imports_what_only_posix_has():
    found = []
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.relative_to(ROOT)}: {n}" for n in names if n.split(".")[0] in POSIX_ONLY]
    assert found == []


def test_file_names_work_on_windows_and_macos(tracked):
    reserved = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
    parts = {part for name in tracked for part in name.split("/")}
    bad = [p for p in parts if re.search(r'[<>:"\\|?*\x00-\x1f]', p) or p[-1] in ". " or reserved.fullmatch(p)]
    assert bad == []
    folded = [name.casefold() for name in tracked]
    assert len(set(folded)) == len(folded), "two names differ only in case"
    assert [name for name in tracked if len(name) > 150] == []


def test_no_tracked_text_names_a_folder_of_one_machine(tracked):
    machine = re.compile(r"(?<![\w./])/(?:work|farm|root|home/\w+)/")
    found = []
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".json", ".txt", ".sh", ""} and path.is_file():
            text = path.read_bytes().decode("utf-8", errors="ignore")
            found += [f"{name}: {hit.group()}" for hit in machine.finditer(text)]
    assert [f for f in found if not f.startswith("tests/test_architecture.py")] == []


def test_no_room_is_called_utils():
    assert [path for path in MODULES if path.stem in {"utils", "helpers", "misc", "common"}] == []


def test_links_in_the_docs_lead_somewhere(tracked):
    link = re.compile(r"\]\(([^)#\s]+)\)")
    pages = [ROOT / name for name in tracked if name.endswith(".md") and not name.startswith("bundles/")]
    places = [(page, place) for page in pages for place in link.findall(page.read_text(encoding="utf-8"))]
    assert [f"{p.name}: {x}" for p, x in places if "://" not in x and not (p.parent / x).exists()] == []


def test_no_package_and_no_heavy_file_is_tracked(tracked):
    root = Path(__file__).parents[1]
    assert [name for name in tracked if name.endswith((".whl", ".tar.gz", ".zip"))] == []
    assert [name for name in tracked if (root / name).stat().st_size > 8e6] == [], (
        "weights are 6.3 MB, the rest far less"
    )
