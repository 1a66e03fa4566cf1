"""The frame of every page: what it may load, and where its links lead."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

import medseg.reports
from medseg.reports.page import resource, url_below, whole_page
from tests.reports.test_html import NASTY, Page

BASE = "file:///results/index.html"


def policy(html: str) -> dict[str, str]:
    content = next(a["content"] for _, a in Page(html).tags if a.get("http-equiv") == "Content-Security-Policy")
    return {part.split(" ", 1)[0]: part.split(" ", 1)[1] for part in content.split("; ")}


def test_title_body_and_foot_in_their_order():
    html = whole_page(NASTY, "<main>all</main>", styles=("page.css",), data="<script type=text/plain id=d>7</script>")
    page = Page(html)
    assert NASTY in page.text
    tags = [tag for tag, _ in page.tags]
    assert tags == [
        "html",
        "head",
        "meta",
        "title",
        "meta",
        "meta",
        "meta",
        "style",
        "body",
        "main",
        "footer",
        "p",
        "script",
    ]
    assert page.blocks == {"d": "7"}
    assert "Research use only" in page.text


def test_styles_follow_each_other():
    html = whole_page("t", "", styles=("page.css", "rank.css"))
    here = Path(medseg.reports.__file__).parent
    both = [(here / name).read_text("utf-8") for name in ("page.css", "rank.css")]
    assert f"<style>{both[0]}\n{both[1]}</style>" in html


def test_its_own_scripts_run_and_no_other():
    scripts = ("let a = 1", "let b = '\N{MICRO SIGN}'")
    html = whole_page("t", "", styles=(), scripts=scripts)
    assert Page(html).scripts == list(scripts)
    digests = [base64.b64encode(hashlib.sha256(s.encode("utf-8")).digest()).decode() for s in scripts]
    assert policy(html)["script-src"] == " ".join(f"'sha256-{d}'" for d in digests)


def test_nothing_else_is_loaded_or_sent():
    allowed = {
        "default-src": "'none'",
        "img-src": "'self' file: data:",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert policy(whole_page("t", "", styles=(), images="'self' file: data:")) == allowed
    scripted = policy(whole_page("t", "", styles=(), scripts=("1",), images="'self' file: data:"))
    assert set(scripted) == {*allowed, "script-src"}
    assert allowed.items() <= scripted.items()


def test_a_resource_in_a_folder():
    assert resource("niivue/niivue.umd.js").startswith("(function")


@given(st.lists(st.text(st.characters(exclude_characters="/\\", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_a_browser_finds_the_path_that_was_meant(parts):
    path = "/".join(parts)
    if ".." in parts:
        with pytest.raises(ValueError, match="relative"):
            url_below(path)
        return
    url = urlsplit(urljoin(BASE, url_below(path)))
    assert (url.scheme, url.query, url.fragment) == ("file", "", "")
    below = [p for p in parts if p != "."] or ["index.html"]
    assert unquote(url.path) == "/".join(["/results", *below])


@pytest.mark.parametrize("path", ["/etc", "\\\\host\\share", "../other", "a/../../b", "a\\..\\..\\b"])
def test_a_path_out_of_the_folder_is_refused(path):
    with pytest.raises(ValueError, match="relative"):
        url_below(path)
