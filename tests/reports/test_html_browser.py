"""The report of a case and the index of a run in a real browser: what stands where, and what the controls do."""

from __future__ import annotations

import json
import shutil
import subprocess
from html import unescape
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.reports.html import report_html
from medseg.reports.index import IndexEntry, index_html
from medseg.reports.preview import preview_png
from tests.reports.demo_case import BLOB, CORE, DOUBT, TABLE, demo_case
from tests.reports.test_html import NASTY

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--allow-file-access-from-files", "--window-size=1400,1000", "--virtual-time-budget=60000",
]  # fmt: skip
SOFTWARE_GL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
KINDS = ("RAS", "LAS", "oblique")
#: The frame of a page is called by its name; `measure(name, window)` returns what was seen.
HARNESS = """<!DOCTYPE html><meta charset=utf-8><title></title><script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const frame = (name) => document.querySelector(`iframe[name="${name}"]`).contentWindow;
const press = (target, key, more = {}) =>
  target.dispatchEvent(new (target.ownerDocument.defaultView.KeyboardEvent)("keydown", { key, bubbles: true, cancelable: true, ...more }));
addEventListener("load", async () => {
  const out = {};
  for (const f of document.querySelectorAll("iframe")) {
    try { out[f.name] = await measure(f.name, f.contentWindow); } catch (error) { out[f.name] = { error: String(error && error.stack || error) }; }
  }
  document.title = JSON.stringify(out);
});
"""
REPORT = """
function shot(w) {
  const nv = w.medseg.nv, gl = nv.gl;
  nv.drawScene();
  const width = gl.drawingBufferWidth, height = gl.drawingBufferHeight, p = new Uint8Array(width * height * 4);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, p);
  return { width, height, p };
}
// Pixels of a plane that pass a test: how many, and their mean place in the tile, (0, 0) top left.
function where(w, plane, test) {
  const s = shot(w), [l, t, tw, th] = w.medseg.nv.screenSlices.find((x) => x.axCorSag === plane).leftTopWidthHeight;
  let n = 0, x = 0, y = 0;
  for (let row = Math.ceil(t); row < t + th; row++)
    for (let column = Math.ceil(l); column < l + tw; column++) {
      const k = ((s.height - 1 - row) * s.width + column) * 4;
      if (test(s.p[k], s.p[k + 1], s.p[k + 2])) { n++; x += column - l; y += row - t; }
    }
  return { n, x: x / n / tw, y: y / n / th };
}
const red = (r, g, b) => r > 200 && g < 60 && b < 60;
const green = (r, g, b) => g > 180 && r < 80 && b < 80;
const white = (r, g, b) => r > 235 && g > 235 && b > 235;
const hot = (r, g, b) => r - b > 40 && r > 90;
const coloured = (r, g, b) => Math.max(r, g, b) - Math.min(r, g, b) > 30;
const grey = (r, g, b) => r > 40 && Math.max(r, g, b) - Math.min(r, g, b) < 8;
async function slide(w, id, value) {
  const input = w.document.getElementById(id);
  input.value = value;
  input.dispatchEvent(new w.Event("input"));
  await wait(100);
}
async function measure(name, w) {
  for (let n = 0; n < 400 && !(w.medseg && (w.medseg.state.ready || w.medseg.state.failed)); n++) await wait(50);
  const d = w.document, api = w.medseg, out = { failed: api.state.failed, ready: api.state.ready };
  out.width = d.documentElement.clientWidth;
  out.scroll = Math.max(d.documentElement.scrollWidth, d.body.scrollWidth);
  out.title = d.title;
  out.scripts = d.querySelectorAll("script").length;
  if (!api.state.ready) return out;
  out.plain = w.getComputedStyle(d.querySelector(".plain")).display;
  out.blocked = [];
  d.addEventListener("securitypolicyviolation", (event) => out.blocked.push(event.effectiveDirective));
  if (!name.startsWith("case")) return out;
  await wait(300);
  const nv = api.nv;
  nv.opts.crosshairWidth = 0; // its lines and the letters would count as colours
  nv.opts.isOrientationTextVisible = false;
  out.start = api.mm();
  await slide(w, "width", 1000);
  await slide(w, "level", 500);
  // Sides: the image's own bright blob, then the structure's fill, then the map.
  api.setMap("");
  d.getElementById("outlines").click();
  api.goTo(BLOB);
  out.image = [0, 1, 2].map((plane) => where(w, plane, white));
  out.body = [0, 1, 2].map((plane) => where(w, plane, grey));
  await slide(w, "fill", 100);
  out.fill = [0, 1, 2].map((plane) => where(w, plane, red));
  await slide(w, "fill", 0);
  out.nofill = where(w, 0, red).n;
  d.getElementById("outlines").click();
  out.outline = [0, 1, 2].map((plane) => where(w, plane, red));
  d.querySelector("input[name=map][value=mutual_information]").click();
  await wait(100);
  out.mutual = where(w, 0, hot);
  api.setMap("");
  if (name !== "case RAS") return out;
  d.querySelectorAll("[data-show]")[0].click();
  out.hidden = where(w, 0, red).n;
  d.querySelectorAll("[data-show]")[0].click();
  d.getElementById("outlines").click();
  // The map: colours, opacity, threshold, switch.
  api.goTo(DOUBT);
  out.off = where(w, 0, coloured).n;
  d.querySelector("input[name=map][value=entropy]").click();
  await wait(100);
  out.entropy = where(w, 0, hot);
  out.at15 = where(w, 0, coloured).n;
  await slide(w, "threshold", 60);
  out.at60 = where(w, 0, coloured).n;
  out.threshold = d.getElementById("threshold-value").textContent;
  await slide(w, "threshold", 15);
  await slide(w, "opacity", 0);
  out.transparent = where(w, 0, coloured).n;
  await slide(w, "opacity", 60);
  d.querySelector("input[name=map][value=mutual_information]").click();
  await wait(100);
  out.other = where(w, 0, coloured).n;
  out.top = d.getElementById("top").textContent;
  // Keyboard and table.
  const canvas = d.getElementById("canvas");
  canvas.focus();
  out.focus = d.activeElement === canvas;
  press(canvas, "ArrowLeft"); // to the middle of a voxel
  const before = api.mm();
  press(canvas, "ArrowLeft");
  out.left = api.mm().map((v, i) => v - before[i]);
  press(canvas, "ArrowRight");
  press(canvas, "PageUp");
  out.up = api.mm().map((v, i) => v - before[i]);
  press(canvas, "2");
  out.view = api.state.view;
  out.tiles = (nv.drawScene(), nv.screenSlices.length);
  press(canvas, "1");
  press(canvas, "m");
  out.map = api.state.map;
  press(canvas, "u");
  out.mapOff = api.state.map;
  const jump = d.querySelectorAll("[data-jump]")[1];
  jump.focus();
  out.jump = [jump.tagName, d.activeElement === jump, jump.disabled];
  jump.click();
  await wait(100);
  out.place = api.mm();
  out.row = d.querySelector("tr[aria-current]").textContent;
  out.says = d.getElementById("where").textContent;
  press(canvas, "+");
  press(canvas, "+");
  out.zoomed = [nv.scene.pan2Dxyzmm[3], where(w, 0, () => true).n > 0 && api.mm()];
  press(canvas, "0");
  await slide(w, "level", 5000);
  out.dark = where(w, 0, grey).n;
  await w.fetch("https://example.org/x").catch(() => 0);
  await wait(100);
  return out;
}
</script>"""
INDEX = """
async function measure(name, w) {
  await wait(300);
  const d = w.document, body = d.body, names = () => [...d.querySelectorAll(".case")].filter((x) => !x.hidden).map((x) => x.dataset.case);
  const out = { width: d.documentElement.clientWidth, scroll: d.documentElement.scrollWidth, order: names() };
  if (name === "again") return { kept: w.medseg.csv(), pressed: d.querySelectorAll("[aria-pressed=true]").length };
  if (name === "phone") return out;
  const image = d.querySelector(".picture img");
  image.loading = "eager";
  await wait(500);
  out.image = image.naturalWidth;
  const at = () => d.querySelector("[aria-current]").dataset.case;
  press(body, "j");
  out.first = at();
  press(d.activeElement, "j");
  out.second = at();
  press(d.activeElement, "a");
  press(d.activeElement, "j");
  press(d.activeElement, "r");
  press(d.activeElement, "n");
  out.inNote = d.activeElement.className;
  d.activeElement.value = 'cut, "low"';
  d.activeElement.dispatchEvent(new w.Event("input", { bubbles: true }));
  press(d.activeElement, "r"); // a letter in a note is a letter
  press(d.activeElement, "Escape");
  press(d.activeElement, "k");
  out.back = at();
  out.csv = w.medseg.csv();
  out.count = d.getElementById("count").textContent;
  d.getElementById("only").value = "redo";
  d.getElementById("only").dispatchEvent(new w.Event("change"));
  out.redo = names();
  d.getElementById("only").value = "";
  d.getElementById("only").dispatchEvent(new w.Event("change"));
  d.getElementById("filter").value = "FLAGGED";
  d.getElementById("filter").dispatchEvent(new w.Event("input"));
  out.filtered = names();
  const again = document.createElement("iframe");
  out.link = d.querySelector("a.open").href;
  return out;
}
</script>"""


def browse(folder: Path, script: str, frames: str, flags: list[str]) -> dict:
    """What the frames of a page measured."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    (folder / "harness.html").write_text(HARNESS + script + frames, encoding="utf-8")
    command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    run = subprocess.run(
        [*command, (folder / "harness.html").as_uri()], capture_output=True, text=True, timeout=240, check=True
    )
    title = run.stdout.partition("<title>")[2].partition("</title>")[0]
    assert title, f"the browser measured nothing: {run.stderr[-2000:]}"
    seen = json.loads(unescape(title))
    for name, found in seen.items():
        assert "error" not in found, f"{name}: {found['error']}"
    return seen


def frame(name: str, page: str, width: int = 1280, height: int = 900) -> str:
    return f'<iframe name="{name}" src="{page}" style="border:0;width:{width}px;height:{height}px"></iframe>'


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("report")
    frames = ""
    for kind in KINDS:
        (folder / f"{kind}.html").write_text(report_html(demo_case(kind)), encoding="utf-8")
        frames += frame(f"case {kind}", f"{kind}.html", 1000, 560)
    (folder / "plain.html").write_text(report_html(demo_case(maps=False, name=NASTY, warning=NASTY)), encoding="utf-8")
    frames += frame("plain", "plain.html", 1280, 560) + frame("phone", "RAS.html", 390, 560)
    places = "".join(f"const {n} = {p.tolist()};" for n, p in (("BLOB", BLOB), ("DOUBT", DOUBT)))
    return browse(folder, places + REPORT, frames, SOFTWARE_GL)


@pytest.fixture(params=KINDS)
def case(request, seen) -> dict:
    return seen[f"case {request.param}"]


@pytest.fixture
def used(seen) -> dict:
    """The page whose controls were used."""
    return seen["case RAS"]


@pytest.mark.slow
def test_every_page_starts(seen):
    for name, found in seen.items():
        assert found["ready"], f"{name}: {found['failed']}"
        assert found["plain"] == "none", "the still picture makes room"


@pytest.mark.slow
def test_the_left_of_the_patient_is_on_the_right_of_the_picture(case):
    for what in ("image", "fill", "outline"):
        axial, coronal, sagittal = case[what]
        assert min(axial["n"], coronal["n"], sagittal["n"]) > 60, what
        assert axial["x"] > 0.55, f"{what}: left is on the right of an axial slice"
        assert coronal["x"] > 0.55, f"{what}: and of a coronal one"
        assert axial["y"] < 0.48, f"{what}: anterior is up"
        assert coronal["y"] < 0.48, f"{what}: superior is up"
        assert sagittal["x"] < 0.48, f"{what}: anterior is on the left of a sagittal slice"
        assert sagittal["y"] < 0.48, f"{what}: superior is up"


@pytest.mark.slow
def test_image_outline_and_map_lie_on_each_other(case):
    for plane in range(3):
        for what in ("fill", "outline"):
            assert case[what][plane]["x"] == pytest.approx(case["image"][plane]["x"], abs=0.02)
            assert case[what][plane]["y"] == pytest.approx(case["image"][plane]["y"], abs=0.02)
        assert case["outline"][plane]["n"] < 0.8 * case["fill"][plane]["n"], "a line, not an area"
    assert case["mutual"]["n"] > 60
    assert case["mutual"]["x"] == pytest.approx(case["image"][0]["x"], abs=0.02)
    assert case["mutual"]["y"] == pytest.approx(case["image"][0]["y"], abs=0.02)


@pytest.mark.slow
def test_all_grids_show_one_picture(seen):
    """The same body in space looks the same, whatever the grid it is stored on."""
    for plane in range(3):
        for axis in "xy":
            ras, las = (
                seen[f"case {kind}"]["image"][plane][axis] - seen[f"case {kind}"]["body"][plane][axis]
                for kind in ("RAS", "LAS")
            )
            assert ras == pytest.approx(las, abs=0.01)


@pytest.mark.slow
def test_outlines_and_fill_can_be_put_off(used):
    assert used["nofill"] == 0
    assert used["hidden"] == 0


@pytest.mark.slow
def test_sliders_and_the_switch_change_the_picture(used):
    assert used["off"] == 0, "without a map the picture is grey"
    assert used["at15"] > 100
    assert used["entropy"]["x"] < 0.45, "the doubt is at the patient's right"
    assert 0 < used["at60"] < 0.6 * used["at15"]
    assert used["threshold"] == "0.6"
    assert used["transparent"] == 0
    assert used["other"] < 0.2 * used["at15"], "mutual information is elsewhere"
    assert used["top"] == "0.05"
    assert used["body"][0]["n"] > 2000
    assert used["dark"] < 0.05 * used["body"][0]["n"], "level and width"


@pytest.mark.slow
def test_the_keyboard_is_enough(used):
    assert used["focus"]
    assert np.linalg.norm(used["left"]) == pytest.approx(1, abs=0.01), "one voxel"
    assert used["left"][0] > 0.9, "arrow left goes to what is on the left: the patient's right"
    assert used["up"][2] > 1.15
    assert used["view"] == "axial"
    assert used["tiles"] == 1
    assert used["map"] == "entropy"
    assert used["mapOff"] == ""
    assert used["jump"] == ["BUTTON", True, False]


@pytest.mark.slow
def test_the_table_leads_to_the_place(used):
    assert np.linalg.norm(np.array(used["start"]) - DOUBT) < 2, "the page opens at the lowest predicted Dice"
    assert np.linalg.norm(np.array(used["place"]) - DOUBT) < 2
    assert np.linalg.norm(np.array(used["place"]) - CORE) > 2
    assert "core & shell" in used["row"]
    assert "R 1" in used["says"]
    assert "core & shell" in used["says"]
    assert "predictive entropy" in used["says"]
    assert used["zoomed"][0] == pytest.approx(2.25)
    assert np.allclose(used["zoomed"][1], used["place"])


@pytest.mark.slow
def test_nothing_is_sent(used):
    assert used["blocked"] == ["connect-src"]


@pytest.mark.slow
def test_nothing_runs_over_the_side(seen):
    for name in ("case RAS", "plain", "phone"):
        assert seen[name]["scroll"] <= seen[name]["width"], name


@pytest.mark.slow
def test_a_nasty_name_is_a_name(seen):
    assert " ".join(seen["plain"]["title"].split()) == " ".join(NASTY.split())


def test_without_webgl_there_is_a_picture_and_a_sentence(tmp_path):
    (tmp_path / "case.html").write_text(report_html(demo_case()), encoding="utf-8")
    script = """
async function measure(name, w) {
  await wait(1500);
  const d = w.document, image = d.querySelector(".plain img");
  return { failed: w.medseg.state.failed, says: d.getElementById("still").textContent, image: image.naturalWidth && image.clientWidth,
           dead: d.querySelectorAll(".panel fieldset:not(:disabled)").length, table: d.querySelectorAll(".structures tbody tr").length };
}
</script>"""
    (found,) = browse(tmp_path, script, frame("case", "case.html"), ["--disable-gpu", "--disable-3d-apis"]).values()
    assert found["failed"] == "webgl"
    assert "no WebGL 2" in found["says"]
    assert found["image"] > 300
    assert found["dead"] == 0, "controls that do nothing are off"
    assert found["table"] == 3


def test_the_index_decides_filters_and_keeps(tmp_path):
    view = demo_case(maps=False)
    (tmp_path / "scan 1#").mkdir()
    (tmp_path / "scan 1#" / "preview.png").write_bytes(preview_png(view.image, view.segmentation, TABLE))
    cases = [
        IndexEntry("sure", "scan 1#", 0.1, 0.95, thumbnail="scan 1#/preview.png"),
        IndexEntry("unsure", "scan 1#", 0.3, 0.6, "flagged thing", thumbnail="scan 1#/preview.png"),
        IndexEntry("broken", "", status="failed", reason="the file ends early " + "x" * 200),
    ]
    (tmp_path / "index.html").write_text(index_html(cases), encoding="utf-8")
    frames = frame("desk", "index.html") + frame("phone", "index.html", 390)
    seen = browse(tmp_path, INDEX, frames, ["--disable-gpu"])
    desk = seen["desk"]
    assert desk["order"] == seen["phone"]["order"] == ["broken", "unsure", "sure"]
    assert desk["scroll"] <= desk["width"]
    assert seen["phone"]["scroll"] <= seen["phone"]["width"]
    assert desk["image"] == 1200, "pictures beside the index are shown under its policy"
    assert [desk["first"], desk["second"], desk["back"]] == ["broken", "unsure", "unsure"]
    assert desk["inNote"] == "note"
    assert desk["csv"] == 'case,decision,note\r\nbroken,,\r\nunsure,accept,\r\nsure,redo,"cut, ""low"""\r\n'
    assert desk["count"] == "2 of 3 decided, 3 shown"
    assert desk["redo"] == ["sure"]
    assert desk["filtered"] == ["unsure"]
    assert desk["link"].endswith("/scan%201%23/report.html")
    again = browse(tmp_path, INDEX, frame("again", "index.html"), ["--disable-gpu"])["again"]
    assert again["kept"] == desk["csv"], "another visit finds the decisions"
    assert again["pressed"] == 2
