"""The page in a real browser: it fits a desk and a phone, and sorting and filtering work under its own policy."""

from __future__ import annotations

import json
import shutil
import subprocess
from html import escape, unescape

import pytest

from medseg.reports.evaluation import evaluation_html
from tests.reports.demo_report import LONG, report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=10000",
]  # fmt: skip
#: Name -> width in CSS pixels, whether scripts may run. A frame has its own viewport, even one narrower than a window.
FRAMES = {"desk": (1280, True), "phone": (390, True), "plain phone": (390, False), "tablet": (820, True)}
PROBE = """
const measure = (name) => {
  const frame = document.querySelector(`iframe[name="${name}"]`), page = frame.contentDocument;
  const root = page.documentElement, table = page.querySelector("table.sortable");
  const out = { width: root.clientWidth, scroll: Math.max(root.scrollWidth, page.body.scrollWidth) };
  out.images = [...page.images].map((image) => image.complete && image.naturalWidth > 0 && image.clientWidth);
  out.over = [...page.body.querySelectorAll("*")]
    .filter((e) => e.getBoundingClientRect().right > out.width + 1 && !e.closest(".wide"))
    .map((e) => `${e.tagName}.${e.className}`);
  out.names = [...table.tBodies[0].rows].map((row) => row.cells[0].clientWidth);
  out.rows = table.tBodies[0].rows.length;
  out.cut = [...page.querySelectorAll(".wide > table.stack")]
    .filter((t) => t.parentElement.scrollWidth > t.parentElement.clientWidth + 1).map((t) => t.className);
  out.strips = [...page.querySelectorAll("main > section > .wide svg.strip")].map((s) => s.clientWidth);
  const button = [...page.querySelectorAll("th button")].find((b) => b.textContent === "Dice");
  if (button) {
    const column = button.parentElement.cellIndex;
    const dice = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[column].textContent));
    button.click();
    out.ascending = dice();
    button.click();
    out.descending = dice();
    out.sort = button.parentElement.getAttribute("aria-sort");
    const field = page.querySelector("input[type=search]");
    field.value = "PREDICTION EMPTY";
    field.dispatchEvent(new Event("input"));
    out.filtered = [...table.tBodies[0].rows].filter((row) => !row.hidden).length;
    out.count = page.querySelector("output").textContent;
  }
  return out;
};
addEventListener("load", () => {
  const names = [...document.querySelectorAll("iframe")].map((frame) => frame.name);
  document.title = JSON.stringify(Object.fromEntries(names.map((name) => [name, measure(name)])));
});
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict:
    """What the browser measured, by name of the frame."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    folder = tmp_path_factory.mktemp("browser")
    page = escape(evaluation_html(report()))
    frames = "".join(
        f'<iframe name="{name}" style="border:0;width:{width}px;height:900px" srcdoc="{page}"'
        f"{'' if scripts else ' sandbox=allow-same-origin'}></iframe>"
        for name, (width, scripts) in FRAMES.items()
    )
    (folder / "frames.html").write_text(
        f"<!DOCTYPE html><meta charset=utf-8><title></title><script>{PROBE}</script>{frames}", encoding="utf-8"
    )
    command = [
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
        (folder / "frames.html").as_uri(),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = run.stdout.partition("<title>")[2].partition("</title>")[0]
    assert title, f"the browser measured nothing: {run.stderr[-2000:]}"
    return json.loads(unescape(title))


@pytest.mark.parametrize("name", FRAMES)
def test_nothing_runs_over_the_side(seen, name):
    assert seen[name]["width"] == FRAMES[name][0]
    assert seen[name]["scroll"] <= seen[name]["width"], f"with names like {LONG!r}: {seen[name]['over']}"
    assert seen[name]["cut"] == []


@pytest.mark.parametrize("name", FRAMES)
def test_pictures_and_strips_fill_their_places(seen, name):
    assert len(seen[name]["images"]) == 3
    assert min(seen[name]["images"]) > 100
    assert min(seen[name]["strips"]) > 250
    assert min(seen[name]["names"]) > 90


def test_sorting_and_filtering(seen):
    desk = seen["desk"]
    assert desk["ascending"] == sorted(desk["ascending"])
    assert desk["descending"] == desk["ascending"][::-1]
    assert desk["sort"] == "descending"
    assert desk["filtered"] == 2
    assert desk["count"] == f"2 of {desk['rows']} rows"


def test_without_its_script_the_page_is_complete(seen):
    assert "ascending" not in seen["plain phone"]
    assert seen["plain phone"]["rows"] == seen["desk"]["rows"] == 24
