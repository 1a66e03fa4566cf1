"""Every error code is explained once under docs/errors/, and no explanation outlives its code."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "errors").glob("?-*.md"))
ROOMS = "FNRDCGXBOMUTEJV"
CODE = re.compile(r"MS-[A-Z]\d{3}")


def used() -> set[str]:
    """Codes that stand as whole string literals in the package: those that are raised or recorded."""
    literal = re.compile(r"""(["'])(MS-[A-Z]\d{3})\1""")
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "medseg").rglob("*.py"))
    return {hit.group(2) for text in texts for hit in literal.finditer(text)}


def documented() -> list[tuple[str, str]]:
    heading = re.compile(r"^### (MS-[A-Z]\d{3})\b", re.MULTILINE)
    return [(code, page.name) for page in PAGES for code in heading.findall(page.read_text(encoding="utf-8"))]


def test_every_code_is_documented_exactly_once():
    counts = Counter(code for code, _ in documented())
    assert sorted(used() - set(counts)) == [], "codes without an explanation under docs/errors/"
    assert sorted(code for code, n in counts.items() if n > 1) == [], "codes explained twice"


def test_no_explanation_outlives_its_code():
    assert sorted({code for code, _ in documented()} - used()) == []


def test_a_code_stands_on_the_page_of_its_letter():
    assert [(code, page) for code, page in documented() if page[0] != code[3]] == []
    assert {code[3] for code in used()} <= set(ROOMS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_explanation_says_something(page):
    sections = re.split(r"^### ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert [s.split()[0] for s in sections if len(s.split("\n", 1)[-1].split()) < 8] == []


def test_the_index_names_every_page_and_no_other():
    index = (ROOT / "docs" / "errors" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([^)]+)\)", index)) == {page.name for page in PAGES}
