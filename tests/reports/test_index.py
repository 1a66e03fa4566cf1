from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.reports.index import IndexEntry, by_doubt, index_html
from tests.reports.test_html import NASTY, Page

CASES = [
    IndexEntry("sure", "sure", 0.05, 0.93),
    IndexEntry("unsure", "unsure", 0.30, 0.71, "touches the edge of the image; too small"),
    IndexEntry("stranger", "stranger", 0.10, 0.90, warning="OUTSIDE TRAINING DOMAIN"),
    IndexEntry("broken", "", status="failed", reason="the file ends early; export it again"),
    IndexEntry("flagged only", "f", None, None, "empty"),
    IndexEntry("entropy high", "e1", 0.4),
    IndexEntry("entropy low", "e2", 0.2, status="kept", thumbnail="e2/preview.png"),
]


def test_the_most_doubtful_come_first():
    wanted = ["broken", "stranger", "unsure", "sure", "flagged only", "entropy high", "entropy low"]
    assert [c.name for c in by_doubt(CASES)] == wanted
    assert [a["data-case"] for _, a in Page(index_html(CASES)).tags if "data-case" in a] == wanted


@given(st.permutations(CASES))
def test_the_order_does_not_depend_on_the_order_given(cases):
    assert index_html(cases) == index_html(CASES)


def test_what_is_known_of_each_case_stands_there():
    page = Page(index_html(CASES))
    for words in ("lowest predicted Dice", "0.71", "0.300", "too small", "export it again", "7 cases", "1 failed"):
        assert words in page.text
    links = {a["href"] for t, a in page.tags if t == "a"}
    assert links == {f"{c.folder}/report.html" for c in CASES if c.folder}
    assert "broken" not in " ".join(links)
    assert [a["src"] for t, a in page.tags if t == "img"] == ["e2/preview.png"]


def test_paths_become_urls_and_names_text():
    odd = IndexEntry(NASTY, "scan 1#?&%</a", thumbnail="javascript:alert(1)", flags=NASTY, warning=NASTY, reason=NASTY)
    page = Page(index_html([odd]))
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert next(a["data-case"] for _, a in page.tags if "data-case" in a) == NASTY
    assert {a["href"] for t, a in page.tags if t == "a"} == {"scan%201%23%3F%26%25%3C/a/report.html"}
    assert [a["src"] for t, a in page.tags if t == "img"] == ["javascript%3Aalert%281%29"]


@pytest.mark.parametrize("path", ["/etc", "\\\\host\\share", "../other", "a/../../b"])
def test_paths_out_of_the_folder_are_refused(path):
    with pytest.raises(ValueError, match="relative"):
        index_html([IndexEntry("x", path)])
    with pytest.raises(ValueError, match="relative"):
        index_html([IndexEntry("x", "x", thumbnail=path)])


def test_a_name_stands_once():
    with pytest.raises(ValueError, match="repeated: sure"):
        index_html([CASES[0], CASES[0]])


def test_nothing_can_be_loaded_but_pictures_beside_it():
    page = Page(index_html(CASES))
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src 'self' file: data:;")
    assert "http" not in page.scripts[0]


def test_no_case_at_all():
    assert "0 cases." in Page(index_html([])).text
