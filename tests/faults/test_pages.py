"""Every page that medseg writes, in a real browser: nothing is asked for outside its folder, nothing is complained of."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

import medseg.reports
from medseg.reports.training import write_training
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict
from medseg.workflows.rank import rank
from tests.faults.browser import CHROMIUM, Browser, Seen
from tests.faults.commands import write_scans
from tests.workflows.recorded_run import small_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

#: Who makes pages -> where they are, below.
PAGES = {
    "html.report_html": ["out/*/report.html", "defaced/*/report.html"],
    "index.index_html": ["out/index.html"],
    "evaluation.evaluation_html": ["evaluation/report.html"],
    "rank.rank_html": ["ranked/rank.html"],
    "training.training_html": ["training/curves.html"],
}
BAD = """<!DOCTYPE html><title>bad</title><script>
fetch("https://medseg.invalid/track").catch(() => 0); console.error("told"); nobody.knows();
</script><img src="http://medseg.invalid/pixel.png">"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def place(toy_bundle, tmp_path_factory) -> Path:
    """The results of every command that writes pages."""
    root = tmp_path_factory.mktemp("pages")
    scans, bundle = write_scans(root / "scans", ["a", "b & <i> ö"]), small_bundle(toy_bundle, root / "small")
    how = {"device": "cpu", "outside_domain": True}
    assert predict(scans, bundle, root / "out", uncertainty="tta", **how).exit_code == 0
    assert predict(scans / "a.nii.gz", toy_bundle, root / "defaced", deface=True, **how).exit_code == 0
    evaluate(root / "out", root / "out", root / "evaluation", images=scans)
    assert rank(scans, bundle, root / "ranked", uncertainty="tta", **how).exit_code == 0
    rows = [
        {"epoch": float(n), "step": n * 4.0, "minutes": n / 9, "rate": 1e-3, "loss": 1 / n, "dice": n / 9}
        for n in range(1, 9)
    ]
    write_training(root / "training", rows, "Training of a <b>run</b>")
    return root


def leaves(url: str, folder: Path) -> bool:
    parts = urlsplit(url)
    if parts.scheme in ("data", "blob", "about"):
        return False
    return parts.scheme != "file" or not Path(unquote(parts.path)).is_relative_to(folder)


def test_the_browser_tells_of_what_it_should(browser, tmp_path):
    (tmp_path / "bad.html").write_text(BAD, encoding="utf-8")
    seen = browser.open((tmp_path / "bad.html").as_uri())
    assert {"https://medseg.invalid/track", "http://medseg.invalid/pixel.png"} <= {
        url for url in seen.asked if leaves(url, tmp_path)
    }
    said = "\n".join(seen.complaints)
    assert "told" in said
    assert "nobody is not defined" in said


def test_every_function_that_makes_a_page_is_here():
    found = set()
    for path in Path(medseg.reports.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [one.name for one in tree.body if isinstance(one, ast.FunctionDef)]
        found |= {f"{path.stem}.{name}" for name in names if name.endswith("_html") and not name.startswith("_")}
    assert found == set(PAGES)


def test_no_page_asks_for_anything_outside_or_complains(browser, place, count):
    written = {path.relative_to(place).as_posix() for path in place.rglob("*.html")}
    seen: dict[str, Seen] = {name: browser.open((place / name).as_uri()) for name in sorted(written)}
    assert all(one.title for one in seen.values()), "each was shown"
    assert all(one.asked for one in seen.values()), "each was asked for itself at least"
    assert [(name, url) for name, one in seen.items() for url in one.asked if leaves(url, (place / name).parent)] == []
    assert {name: one.complaints for name, one in seen.items() if one.complaints} == {}
    assert [one for places in PAGES.values() for one in places if not list(place.glob(one))] == []
    assert len(seen) == 3 + 2 + 3  # reports of cases, their two runs, and one of every other kind
    count(
        "pages in Chromium", len(seen), len(written), "asked for nothing outside their folder, no error in the console"
    )
