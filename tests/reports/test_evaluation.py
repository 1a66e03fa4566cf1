import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from medseg.metrics.table import Row, summarise
from medseg.reports.evaluation import EvaluationReport, Figure, evaluation_html
from medseg.reports.markup import inline_svg
from medseg.reports.numbers import shown
from tests.reports.demo_report import HOSTILE, LONG, STRUCTURES, case_rows, phantom, report


class Page(HTMLParser):
    """Sections with their text, tables by caption, the tags that were left open."""

    VOID = frozenset({"meta", "img", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.tags, self.sections, self.tables = [], [], {}, {}
        self._section, self._table = "", None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._section = dict(attrs)["id"]
        if tag == "table":
            self._table = []
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("th", "td") and self._table is not None:
            self._table[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables.setdefault(self._section, []).append(self._table)
            self._table = None

    def handle_data(self, data):
        self.sections[self._section] = self.sections.get(self._section, "") + data + " "
        if self._table and self._table[-1] and self.open[-1] not in ("title", "caption"):
            self._table[-1][-1] += data


@pytest.fixture(scope="module")
def html() -> str:
    return evaluation_html(report())


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_every_case_and_every_number_is_there(page):
    (table,) = page.tables["cases"]
    rows = case_rows()
    assert len(table) - 1 == len(rows) / 5
    head = table[0]
    assert head[:4] == ["Case", "Structure", "Status", "Dice"]
    lines = {(line[0], line[1]): line for line in table[1:]}
    columns = {"dice": "Dice", "hd95_mm": "HD95 (mm) border", "nsd@1mm": "NSD at 1 mm border", "iou": "IoU"}
    for r in rows:
        if r.metric in columns:
            assert lines[r.case, r.structure][head.index(columns[r.metric])] == shown(r.value, r.metric)
    assert lines["case_002", STRUCTURES[0]][2] == "prediction empty"
    assert lines["case_003", STRUCTURES[0]][2] == "no prediction"


def test_every_aggregate_is_there(page):
    data = report()
    tables = page.tables["spread"] + page.tables["further"]
    assert len(tables) == 5
    for metric, table in zip((*data.headline, "iou"), tables, strict=True):
        for structure, line in zip(STRUCTURES, table[1:3], strict=True):
            found = data.summary[structure][metric]
            assert line[0] == structure
            words = " ".join(line)
            for value in (found.median, found.q1, found.q3, found.mean, found.mean_penalised, found.low, found.high):
                assert shown(value, metric) in words
            assert f"{found.n_finite} of {found.n}" in words
            assert found.worst_case in words


def test_a_metric_with_infinities_never_looks_good(page):
    hd = report().summary[STRUCTURES[0]]["hd95_mm"]
    assert (hd.n, hd.n_finite) == (12, 10)
    assert hd.mean < hd.mean_penalised
    summary = page.tables["summary"][0]
    assert "2 of 12 infinite" in summary[1][2]
    assert "infinite" not in summary[1][1]
    assert "inf (2)" in page.sections["spread"]


def test_all_predictions_empty():
    rows = [Row(c, c, "s", m, "", v, "pred_empty") for c in "abc" for m, v in (("dice", 0.0), ("hd95_mm", math.inf))]
    summary = summarise(rows, dict.fromkeys("abc", 50.0), draws=10)
    made = Page(evaluation_html(EvaluationReport("x", rows, summary)))
    line = made.tables["summary"][0][1]
    assert "inf" in line[2]
    assert "3 of 3 infinite" in line[2]
    assert "0 of 3" in made.tables["spread"][1][1][3]
    assert "n/a" in made.tables["spread"][1][1][3]
    assert "50.00" in made.tables["spread"][1][1][4]


def test_who_failed(page):
    (table,) = page.tables["look"]
    found = {line[0]: " ".join(line[1:]) for line in table[1:]}
    assert "no prediction" in found["case_003"]
    assert "MS-N101" in found["case_004"]
    assert "copy it again" in found["case_004"]
    assert f"prediction empty: {', '.join(STRUCTURES)}" in found["case_002"]
    assert "no reference" in found["stranger"]


def test_it_says_what_it_is(page):
    text = " ".join(page.sections.values())
    assert "Research use only" in text
    assert "percentile bootstrap over subjects" in text
    assert "12 cases" in text
    assert "2 structures" in text
    assert "label 7 is in 2 predictions (118 voxels)" in page.sections["notes"]


def test_comparison_and_groups(page):
    compared, (grouped,) = page.tables["compare"][0], page.tables["groups"]
    assert compared[0] == [
        "Structure", "Metric", "Pairs", "Mean difference", "Interval", "Against zero", "p", "p, Holm", "Favours"
    ]  # fmt: skip
    assert compared[1] == ["anterior", "Dice", "12", "0.021", "0.010 to 0.030", "", "< 0.001", "0.200", "prediction"]
    assert compared[2][1:5] == ["HD95 (mm) border", "12 of 9 subjects", "inf", "−0.50 to inf"]
    assert compared[2][-1] == "unclear", "the interval holds zero"
    (further,) = [t for t in page.tables["compare"][1:] if t]
    assert [line[1] for line in further[1:]] == ["IoU"]
    assert grouped[1][-1] == ""
    assert grouped[2] == ["site B", "anterior", "Dice", "5", "0.800", "0.700 to 0.860", "worst, gap 0.100"]


def test_names_are_text(html, page):
    assert "alert(" in html
    assert HOSTILE not in html
    assert "<models>" not in html
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert page.open == []


def test_it_loads_nothing(html, page):
    assert "http://" not in html
    assert "https://" not in html
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "base", "form"}
    sources = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "srcset", "href")]
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in sources)
    assert not re.search(r"url\(|@import", html)


def test_its_policy_allows_its_own_script_alone(html):
    script = re.search(r"<script>(.*)</script>", html, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in html


def test_it_can_be_read_without_eyes_or_mouse(page):
    tags = page.tags
    assert ("html", {"lang": "en"}) in tags
    assert all(attrs.get("alt") for tag, attrs in tags if tag == "img")
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for tag, attrs in tags
               if tag == "svg" and attrs.get("class"))  # fmt: skip
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for tag, a in tags if tag == "a"} <= set(ids)
    assert [tag for tag, _ in tags if tag in ("h1", "h2", "h3")][:2] == ["h1", "h2"]
    assert [tag for tag, _ in tags].count("caption") == [tag for tag, _ in tags].count("table")


def test_what_there_is_not_takes_no_place():
    rows = [r for r in case_rows() if r.status == "ok"]
    plain = EvaluationReport("x", rows, summarise(rows, {}, draws=10), headline=("dice",))
    made = Page(evaluation_html(plain))
    assert list(made.sections) == ["", "summary", "spread", "further", "cases", "reading"]
    assert not [tag for tag, _ in made.tags if tag in ("img", "figure")]


def test_no_case_at_all():
    made = Page(evaluation_html(EvaluationReport("x", (), {}, missing=())))
    assert "No case was scored" in made.sections["summary"]
    assert "0 cases" in made.sections[""]


def test_a_headline_that_is_absent_gives_way_to_what_there_is():
    rows = [Row("a", "a", "s", "cldice", "", 0.5, "ok")]
    made = Page(evaluation_html(EvaluationReport("x", rows, summarise(rows, {}, draws=10))))
    assert made.tables["summary"][0][0][1] == "clDice higher is better"


def test_subjects_have_a_column_where_they_are_not_the_cases():
    rows = [replace(r, subject="patient 1") for r in case_rows(4)]
    made = Page(evaluation_html(EvaluationReport("x", rows, {})))
    assert made.tables["cases"][0][0][1] == "Subject"
    assert made.tables["cases"][0][1][1] == "patient 1"


def test_two_definitions_of_one_metric_are_two_columns_and_one_number_twice_is_refused():
    row = Row("a", "a", "s", "hd95_mm", "border", 1.0, "ok")
    both = [row, replace(row, definition="surfel", value=2.0)]
    assert Page(evaluation_html(EvaluationReport("x", both, {}))).tables["cases"][0][1][3:] == ["1.00", "2.00"]
    with pytest.raises(ValueError, match="hd95_mm of 's' in case 'a' stands twice"):
        evaluation_html(EvaluationReport("x", [row, row], {}))


def test_svg_files_lose_what_names_an_address():
    svg = (
        '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C" "http://www.w3.org"><svg xmlns="http://www.w3.org/2000/svg"'
    )
    svg += ' xmlns:xlink="http://www.w3.org/1999/xlink"><metadata>https://x</metadata><use xlink:href="#a"/></svg>\n'
    assert inline_svg(svg) == '<svg><use xlink:href="#a"/></svg>'
    with pytest.raises(ValueError, match="an SVG holds <svg, got 'png'"):
        evaluation_html(replace(report(), figures=(Figure("t", "c", "png"),)))


def test_it_is_small():
    """40 cases, 2 structures, 8 pictures."""
    made = evaluation_html(report(40, pictures=8))
    assert len(made.encode()) < 3_000_000
    pngs = re.findall(r"data:image/png;base64,([^\"]+)", made)
    assert len(pngs) == 24
    assert all(len(png) < 120_000 for png in pngs)


def test_pictures_say_whose_they_are(page):
    alts = [attrs["alt"] for tag, attrs in page.tags if tag == "img"]
    assert alts[0] == f"{LONG}, anterior, axial slice: outlines of the reference and the prediction"
    assert [alt.split(", ")[2].split(":")[0] for alt in alts] == ["axial slice", "coronal slice", "sagittal slice"]
    assert "Dice 0.10" in page.sections["worst"]
    assert "reference, solid" in page.sections["worst"]
    assert phantom().case == LONG


def test_a_case_that_misses_everything_does_not_list_twenty_structures():
    rows = case_rows(4, [f"organ {n}" for n in range(20)])
    (table,) = Page(evaluation_html(EvaluationReport("x", rows, {}))).tables["look"]
    assert table[1][1] == "prediction empty: all 20 structures"
