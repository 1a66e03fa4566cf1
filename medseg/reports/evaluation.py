"""report.html of an evaluation: one page that needs nothing but itself.

In the order in which a reader asks: what was compared and how, who failed, how good, how spread, where worst, and
every number at the end. The page loads nothing (a content policy in its head forbids it) and is complete without
its script, which only sorts and filters the table of cases.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medseg.reports.case_table import every_case, failures
from medseg.reports.contours import PREDICTION, REFERENCE, views
from medseg.reports.differences import comparison, groups
from medseg.reports.markup import inline_svg, paragraph, section, text
from medseg.reports.overview import colours_of, distributions, glance, metrics_of, swatch
from medseg.reports.page import resource, whole_page
from medseg.reports.pooled import pooled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from medseg.metrics.table import Aggregate, Row


@dataclass(frozen=True, eq=False)
class Picture:
    """One of the worst cases, to be shown.

    Args:
        case: its name.
        structure: what is outlined.
        caption: its scores, such as 'Dice 0.61, HD95 4.2 mm'.
        pred: (I, J, K) integer label map.
        ref: (I, J, K) integer label map on the same grid.
        affine: (4, 4) voxel index -> RAS mm.
        values: label values of the structure.
        image: (I, J, K) grey values on the same grid, None for a plain background.
    """

    case: str
    structure: str
    caption: str
    pred: np.ndarray
    ref: np.ndarray
    affine: np.ndarray
    values: tuple[int, ...]
    image: np.ndarray | None = None


@dataclass(frozen=True)
class Figure:
    """A finished plot (calibration, risk-coverage, FROC, precision-recall).

    Args:
        title: plain text.
        caption: plain text.
        svg: an SVG file's text; trusted.
    """

    title: str
    caption: str
    svg: str


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """What the page shows.

    Args:
        title: of the page.
        rows: the whole case table.
        summary: structure -> metric -> aggregate of its rows.
        headline: metrics shown first, where present.
        facts: what was compared: 'prediction', 'reference', 'protocol', 'definition', 'medseg', ... -> text.
        missing: reference cases without a prediction; they are scored as failures.
        extra: predictions without a reference; they are not scored.
        failures: (case, error code, what happened and how to mend it).
        notes: recorded decisions, unknown labels with counts.
        pictures: worst cases.
        figures: finished plots.
        comparison: rows of compare.csv: structure, metric, n, mean_difference, low, high, p, p_holm, ...
        groups: rows of groups.csv: group, structure, metric, n, mean, low, high, is_worst, gap.
        pooled: numbers over the instances of all cases together: structure, metric, value, low, high, and of compared
            predictions other, difference, difference_low, difference_high.
    """

    title: str
    rows: Sequence[Row]
    summary: Mapping[str, Mapping[str, Aggregate]]
    headline: tuple[str, ...] = ("dice", "hd95_mm", "nsd@1mm", "volume_difference_ml")
    facts: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()
    extra: Sequence[str] = ()
    failures: Sequence[tuple[str, str, str]] = ()
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    figures: Sequence[Figure] = ()
    comparison: Sequence[Mapping[str, object]] = ()
    groups: Sequence[Mapping[str, object]] = ()
    pooled: Sequence[Mapping[str, object]] = ()


def evaluation_html(data: EvaluationReport) -> str:
    """The page as one string, a few kB a case and at most 120 kB a picture.

    Raises:
        ValueError: a number stands twice in the table; the maps of a picture differ in shape; a figure is no SVG.
    """
    present = metrics_of(data.summary)
    first = [m for m in data.headline if m in present] or present[:4]
    further = [m for m in present if m not in first]
    sections = [
        ("summary", "Summary", _summary(data, first)),
        ("pooled", "Instances of all cases together", pooled(data.pooled)),
        ("look", "Cases that need a look", failures(data.rows, data.missing, data.extra, data.failures)),
        ("spread", "Distribution", distributions(data.rows, data.summary, first)),
        ("worst", "Worst cases", _worst(data)),
        ("plots", "Plots", _plots(data.figures)),
        ("compare", "Comparison", _first(comparison, data.comparison, first, _COMPARED)),
        ("groups", "Groups", _first(groups, data.groups, first, _GROUPED)),
        ("further", "Further metrics", _further(data, further)),
        ("cases", "Every case", every_case(data.rows, first) if data.rows else ""),
        ("notes", "Notes", _notes(data.notes)),
        ("reading", "How to read this", _READING),
    ]
    sections = [s for s in sections if s[2]]
    links = "".join(f'<li><a href="#{anchor}">{text(title)}</a></li>' for anchor, title, _ in sections)
    body = "".join(section(*s) for s in sections)
    content = (
        f'<a class="skip" href="#summary">Skip to the summary</a>{_header(data)}'
        f'<nav aria-label="Contents"><ul>{links}</ul></nav><main>{body}</main>'
    )
    scripts = (resource("page.js"),)
    return whole_page(data.title, content, styles=("page.css",), scripts=scripts, scheme="light dark")


def _header(data: EvaluationReport) -> str:
    scored = {r.case for r in data.rows} | set(data.missing)
    counts = [_count(len(scored), "case"), _count(len(data.summary), "structure")]
    missed = {r.case for r in data.rows if r.status == "pred_empty"}
    for n, words in (
        (len(data.missing), "without a prediction (counted as failed)"),
        (len(missed), "with a structure missed altogether"),
    ):
        counts += [f'<span class="bad">{n} {words}</span>'] if n else []
    counts += [f"{_count(len(data.extra), 'prediction')} without a reference (not scored)"] if data.extra else []
    facts = "".join(f"<div><dt>{_fact(k)}</dt><dd>{text(v)}</dd></div>" for k, v in data.facts.items())
    facts = f'<dl class="facts">{facts}</dl>' if facts else ""
    return (
        f'<header><p class="kicker">Evaluation of a segmentation</p><h1>{text(data.title)}</h1>'
        f'<p class="lede">{", ".join(counts)}.</p>{facts}</header>'
    )


def _fact(key: str) -> str:
    return text(key if key == "medseg" else key[:1].upper() + key[1:])


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _summary(data: EvaluationReport, metrics: Sequence[str]) -> str:
    if not data.summary:
        return paragraph("No case was scored.")
    words = (
        'Median over all cases, infinite distances counted as largest<span class="roomy">; quartiles below it</span>.'
    )
    return paragraph(words, "lead") + glance(data.summary, metrics)


def _worst(data: EvaluationReport) -> str:
    if not data.pictures:
        return ""
    colours = colours_of(data.summary)
    key = (
        f'<p class="key"><span><svg width="34" height="10" aria-hidden="true"><line x2="34" y1="5" y2="5" '
        f'stroke="{REFERENCE}" stroke-width="3"/></svg> reference, solid</span> <span><svg width="34" height="10" '
        f'aria-hidden="true"><line x2="34" y1="5" y2="5" stroke="{PREDICTION}" stroke-width="3" '
        'stroke-dasharray="8 4"/></svg> prediction, dashed</span> <span>The slices meet where the two differ most; '
        "the patient’s right is on the left.</span></p>"
    )
    return key + "".join(_figure(picture, colours) for picture in data.pictures)


def _figure(picture: Picture, colours: Mapping[str, tuple[int, int, int]]) -> str:
    point, slices = views(picture, colours.get(picture.structure, (128, 128, 128)))
    images = "".join(
        f'<div><img src="data:image/png;base64,{base64.b64encode(v.png).decode()}" alt="{text(v.alt)}" width="480" '
        f'height="480"><span>{v.plane}</span></div>'
        for v in slices
    )
    where = ", ".join(f"{v:.1f}".replace("-", "−") for v in point)
    return (
        f'<figure class="worst"><figcaption><b>{text(picture.case)}</b> {swatch(picture.structure, colours)} '
        f'<span>{text(picture.caption)}</span> <small>at ({where}) mm RAS</small></figcaption>'
        f'<div class="views">{images}</div></figure>'
    )  # fmt: skip


def _plots(figures: Sequence[Figure]) -> str:
    made = "".join(
        f'<figure><h3>{text(f.title)}</h3><div class="plot" role="img" aria-label="{text(f.title)}: '
        f'{text(f.caption)}">{inline_svg(f.svg)}</div><figcaption>{text(f.caption)}</figcaption></figure>'
        for f in figures
    )
    return f'<div class="plots">{made}</div>' if made else ""


def _further(data: EvaluationReport, metrics: Sequence[str]) -> str:
    if not metrics:
        return ""
    words = f"Distributions and numbers of {_count(len(metrics), 'further metric')}"
    return f"<details><summary>{words}</summary>{distributions(data.rows, data.summary, metrics)}</details>"


def _first(
    made: Callable[[Sequence[Mapping[str, object]]], str],
    lines: Sequence[Mapping[str, object]],
    metrics: Sequence[str],
    words: str,
) -> str:
    """A table of these metrics, and one of all others to unfold; '' where there are no lines."""
    chosen = [line for line in lines if line.get("metric") in metrics]
    others = [line for line in lines if line.get("metric") not in metrics] if chosen else []
    more = f"<details><summary>Further metrics</summary>{made(others)}</details>" if others else ""
    return paragraph(words, "lead") + made(chosen or lines) + more if lines else ""


def _notes(notes: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(n)}</li>' for n in notes)}</ul>" if notes else ""


_COMPARED = (
    "The prediction less the one it is compared with, case by case. p is Wilcoxon’s signed-rank test; Holm’s "
    "adjustment is over all metrics and structures."
)
_GROUPED = "Mean of each group, an infinite distance counted as the diagonal of the image."
_READING = "".join(
    paragraph(words)
    for words in (
        "Each dot is a case. The shaded box spans the quartiles, the bar is the median; both are over all cases, "
        "with an infinite distance as the largest value. Cases set apart behind a dashed line have no place on the "
        "axis: “inf” is a structure that was missed or invented, “0” an overlap of nothing.",
        "“Mean over finite” leaves infinite distances out and says of how many cases it speaks, so a method that "
        "misses a structure can look good in it. “Mean, penalised” does not: an infinite distance counts there as "
        "the diagonal of the image. Every interval is a percentile bootstrap over subjects.",
        "Empty in both: overlap 1, distances 0. Empty in one: overlap 0, distances infinite. A reference without a "
        "prediction has the worst value of every metric. A volume difference is prediction less reference.",
    )
)
