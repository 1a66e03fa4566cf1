"""OUT/rank.html: the cases to label next, in order, each with a picture and the reason. No script, no server."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan
from typing import TYPE_CHECKING

from medseg.reports.markup import text
from medseg.reports.page import url_below, whole_page

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class RankEntry:
    """One case of the page.

    Args:
        name: of the case.
        why: it stands where it does, in a few words.
        numbers: title -> value in [0, 1]; NaN is shown as a dash.
        distance: to the most similar case before, in standard deviations; NaN for none.
        files: the scan, one a line.
        warning: 'OUTSIDE TRAINING DOMAIN' or ''.
        thumbnail: its picture, relative to the page, as a path; '' for none.
    """

    name: str
    why: str
    numbers: dict[str, float]
    distance: float = nan
    files: tuple[str, ...] = ()
    warning: str = ""
    thumbnail: str = ""


def rank_html(
    cases: Sequence[RankEntry],
    *,
    lede: str,
    by: str,
    failed: Sequence[tuple[str, str]] = (),
    title: str = "What to label next",
) -> str:
    """The page as one string, about 1 kB a case.

    Args:
        cases: in their order.
        lede: one sentence on what was ranked.
        by: the title among `numbers` that ranks.
        failed: name and reason of cases that could not be looked at.
        title: of the page.

    Raises:
        ValueError: a thumbnail leads out of the folder of the page.
    """
    items = "".join(_item(case, number, by) for number, case in enumerate(cases, 1))
    body = (
        f'<header><p class="kicker">medseg rank</p><h1>{text(title)}</h1><p class="lede">{text(lede)}</p></header>'
        f'<main><p class="lead">{_LEAD}</p><ol class="cases">{items}</ol>{_failures(failed)}</main>'
    )
    styles = ("page.css", "viewer.css", "index.css", "rank.css")
    return whole_page(title, body, styles=styles, images="'self' file: data:")


_LEAD = (
    "From the top: each case is the one with the largest product of its own doubt and its distance to the nearest case "
    "above it, so copies and near relatives of what is already in the list come late."
)


def _item(case: RankEntry, number: int, by: str) -> str:
    name = text(case.name)
    picture = (
        f'<img src="{url_below(case.thumbnail)}" alt="Three slices of {name} with outlines" loading="lazy" width="1200" height="520">'
        if case.thumbnail
        else '<span class="none">no picture</span>'
    )
    warning = f'<p class="bad"><b>{text(case.warning)}</b></p>' if case.warning else ""
    paths = "".join(f'<p class="path">{text(path)}</p>' for path in case.files)
    numbers = "".join(_number(key, value, 3, key == by) for key, value in case.numbers.items())
    return (
        f'<li class="case" value="{number}" data-case="{name}" aria-labelledby="c{number}">'
        f'<span class="picture">{picture}</span><div class="about">'
        f'<h2 id="c{number}"><span class="rank">{number}</span> {name}</h2><p>{text(case.why)}</p>{warning}{paths}</div>'
        f'<dl class="numbers">{numbers}{_number("Distance", case.distance, 2, False)}</dl></li>'
    )


def _number(title: str, value: float, digits: int, ranks: bool) -> str:
    shown = "\N{EN DASH}" if isnan(value) else f"{value:.{digits}f}"
    kind = ' class="ranks"' if ranks else ""
    return f"<div{kind}><dt>{text(title)}</dt><dd>{shown}</dd></div>"


def _failures(failed: Sequence[tuple[str, str]]) -> str:
    if not failed:
        return ""
    rows = "".join(f'<li><b class="bad">{text(name)}</b> {text(reason)}</li>' for name, reason in failed)
    return f'<section aria-labelledby="failed"><h2 id="failed">Not looked at</h2><ul>{rows}</ul></section>'
