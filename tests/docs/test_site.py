"""The documentation builds without a warning, leaves nothing out, and needs no network where it is read."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
built = pytest.mark.slow
ROOMS = ("transforms", "networks", "losses", "inferers", "training", "bundle")


def test_the_page_of_the_reference_lists_every_public_name():
    surface = json.loads((ROOT / "tests" / "api_surface.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in surface if f":: medseg.{name}\n" not in page] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built pages; -W makes every warning (a dead link, an unreadable docstring, a page in no menu) an error."""
    out = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        str(out / "trees"),
        "docs",
        str(out / "html"),
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return out / "html"


@pytest.fixture(scope="module")
def objects(site) -> set[str]:
    """Names of everything that the API reference explains, from the site's inventory."""
    lines = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    entries = [line.split() for line in zlib.decompress(lines).decode().splitlines()]
    return {entry[0] for entry in entries if entry[1].startswith("py:")}


@built
def test_the_reference_explains_every_public_name(objects):
    surface = json.loads((ROOT / "tests" / "api_surface.json").read_text(encoding="utf-8"))
    assert sorted(f"medseg.{name}" for name in surface if f"medseg.{name}" not in objects) == []


@built
@pytest.mark.parametrize("room", ROOMS)
def test_the_reference_explains_every_name_for_bundles(objects, room):
    names = importlib.import_module(f"medseg.{room}").__all__
    assert [name for name in names if f"medseg.{room}.{name}" not in objects] == []


@built
def test_every_error_code_stands_on_one_page(site):
    page = (site / "errors" / "README.html").read_text(encoding="utf-8")
    pages = (path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "errors").glob("?-*.md"))
    codes = re.findall(r"^### (MS-[A-Z]\d{3})\b", "\n".join(pages), re.MULTILINE)
    assert len(codes) > 200
    assert [code for code in codes if f'id="{code.lower()}"' not in page] == []


@built
def test_links_to_a_room_of_codes_lead_into_that_page(site):
    planning = (site / "planning.html").read_text(encoding="utf-8")
    (anchor,) = re.findall(r'href="errors/README\.html#([^"]+)"[^>]*>(?:<[^>]+>)*codes', planning)
    assert f'id="{anchor}"' in (site / "errors" / "README.html").read_text(encoding="utf-8")


@built
def test_pages_load_nothing_from_elsewhere(site):
    loads = re.compile(
        r"""<(?:script|img|iframe|link(?=[^>]*rel="(?:stylesheet|preload|icon)"))[^>]*(?:src|href)="(https?:)?//"""
    )
    found = [path.name for path in site.rglob("*.html") if loads.search(path.read_text(encoding="utf-8"))]
    assert found == []
    sheets = [path.name for path in site.rglob("*.css") if re.search(r"url\([\"']?https?:|@import", path.read_text())]
    assert sheets == []
