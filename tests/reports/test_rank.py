from __future__ import annotations

import re

import pytest

from medseg.reports.rank import RankEntry, rank_html
from tests.reports.test_html import NASTY, Page

NUMBERS = {"Entropy": 0.3125, "Mutual information": 0.0625, "Disagreement": float("nan")}
CASES = [
    RankEntry(
        "scan 1", "the most doubt of all", NUMBERS, files=("pool/scan 1.nii.gz",), thumbnail="scan 1/preview.png"
    ),
    RankEntry("b", "resembles scan 1", NUMBERS, 1.25, warning="OUTSIDE TRAINING DOMAIN"),
]


def page(cases=CASES, **more):
    return Page(rank_html(cases, **{"lede": "2 cases.", "by": "Entropy"} | more))


def test_the_cases_stand_in_the_order_given():
    found = page()
    assert [(a["data-case"], a["value"]) for t, a in found.tags if t == "li"] == [("scan 1", "1"), ("b", "2")]
    assert [a["src"] for t, a in found.tags if t == "img"] == ["scan%201/preview.png"]
    for words in ("2 cases.", "the most doubt of all", "resembles scan 1", "pool/scan 1.nii.gz", "OUTSIDE TRAINING"):
        assert words in found.text


def test_the_numbers_and_which_of_them_ranks():
    html = rank_html(CASES, lede="", by="Mutual information")
    assert re.findall(r'<div class="ranks"><dt>(.*?)</dt><dd>(.*?)</dd>', html) == [("Mutual information", "0.062")] * 2
    assert re.findall(r"<dt>Distance</dt><dd>(.*?)</dd>", html) == ["–", "1.25"]
    assert re.findall(r"<dt>Disagreement</dt><dd>(.*?)</dd>", html) == ["–"] * 2


def test_failures_are_told():
    found = page(failed=[("broken", "MS-N101 the file ends early -> copy it again")])
    assert "Not looked at" in found.text
    assert "MS-N101 the file ends early -> copy it again" in found.text
    assert "Not looked at" not in page().text


def test_names_become_text_and_paths_urls():
    odd = RankEntry(NASTY, NASTY, {NASTY: 0.5}, files=(NASTY,), warning=NASTY, thumbnail="javascript:alert(1)/a#b.png")
    found = page([odd], lede=NASTY, by=NASTY, failed=[(NASTY, NASTY)], title=NASTY)
    assert {tag for tag, _ in found.tags} <= {tag for tag, _ in page(failed=[("a", "b")]).tags}, "no tag of its own"
    assert not found.scripts
    assert found.text.count(NASTY) >= 9
    assert [a["src"] for t, a in found.tags if t == "img"] == ["javascript%3Aalert%281%29/a%23b.png"]


@pytest.mark.parametrize("path", ["/etc/a.png", "\\\\host\\share", "../other.png", "a/../../b.png"])
def test_paths_out_of_the_folder_are_refused(path):
    with pytest.raises(ValueError, match="relative"):
        page([RankEntry("x", "", {}, thumbnail=path)])


def test_nothing_can_be_loaded_but_pictures_beside_it():
    policy = next(a["content"] for _, a in page().tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src 'self' file: data:;")
    assert "script" not in {tag for tag, _ in page().tags}


def test_no_case_at_all():
    assert "0 cases." in page([], lede="0 cases.").text
