"""OUT/index.html: every case of a run at a glance, the most doubtful first, and what a reader decided about each.

The decisions stay in the reader's browser until they are saved as a CSV file. The page works from a folder, without
a server, and loads nothing but the cases' own pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.reports.markup import text
from medseg.reports.page import resource, url_below, whole_page

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Statuses of cases that have a report.
_DONE = ("done", "finished before", "kept")


@dataclass(frozen=True)
class IndexEntry:
    """One case of a run.

    Args:
        name: of the case.
        folder: where its report.html lies, relative to the index, as a path ('case_1'), not as a URL; '' for none.
        doubt: mean entropy in and around its structures, in [0, 1]; None where none was asked for.
        predicted_dice: lowest predicted Dice of its structures, None where there is none.
        flags: what deserves a second look, "; " between.
        warning: 'OUTSIDE TRAINING DOMAIN' or ''.
        status: 'done', 'finished before', 'kept' (edited by hand), or 'failed'.
        thumbnail: its preview.png, relative to the index, as a path; '' for none.
        reason: why it failed and what to do.
    """

    name: str
    folder: str
    doubt: float | None = None
    predicted_dice: float | None = None
    flags: str = ""
    warning: str = ""
    status: str = "done"
    thumbnail: str = ""
    reason: str = ""


def by_doubt(cases: Sequence[IndexEntry]) -> list[IndexEntry]:
    """The most doubtful first.

    Failed cases, then those outside the training domain, then by lowest predicted Dice; cases without one come after,
    flagged ones first, by mean entropy. Equals by name.
    """

    def key(case: IndexEntry) -> tuple:
        dice = case.predicted_dice
        return (
            case.status in _DONE,
            not case.warning,
            dice is None,
            dice if dice is not None else not case.flags,
            -(case.doubt or 0.0),
            case.name,
        )

    return sorted(cases, key=key)


def index_html(cases: Sequence[IndexEntry], *, title: str = "Cases of this run") -> str:
    """The page as one string, about 1 kB a case.

    Args:
        cases: in any order.
        title: of the page.

    Raises:
        ValueError: two cases bear one name; a folder or thumbnail leads out of the folder of the index.
    """
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        msg = f"each case stands once in an index, repeated: {', '.join(twice)}"
        raise ValueError(msg)
    items = "".join(_item(case, n) for n, case in enumerate(by_doubt(cases)))
    body = (
        f'<header><p class="kicker">medseg predict</p><h1>{text(title)}</h1>'
        f'<p class="lede">{_counts(cases)}</p></header><main>{_TOOLS}'
        f'<ol class="cases" id="cases">{items}</ol></main>'
    )
    return whole_page(
        title,
        body,
        styles=("page.css", "viewer.css", "index.css"),
        scripts=(resource("index.js"),),
        images="'self' file: data:",
    )


_TOOLS = (
    '<div class="tools" role="search"><label>Filter <input type="search" id="filter"></label>'
    '<label>Show <select id="only"><option value="">all</option><option value="open">undecided</option>'
    '<option value="accept">accepted</option><option value="redo">to redo</option></select></label>'
    '<output id="count" aria-live="polite"></output><button type="button" id="save">Save decisions (CSV)</button></div>'
    '<p class="lead" id="order">The most doubtful first: failed, outside the training domain, then by lowest predicted '
    "Dice or by mean entropy. Decisions stay in this browser until you save them. Keys: <kbd>j</kbd> next, "
    "<kbd>k</kbd> previous, <kbd>a</kbd> accept, <kbd>r</kbd> redo, <kbd>n</kbd> note, <kbd>Enter</kbd> open, "
    '<kbd>/</kbd> filter.</p><p class="bad" id="trouble" hidden></p>'
    "<noscript><p>Deciding and filtering need scripts; the links work without.</p></noscript>"
)


def _counts(cases: Sequence[IndexEntry]) -> str:
    failed = sum(case.status not in _DONE for case in cases)
    outside = sum(bool(case.warning) for case in cases)
    parts = [f"{len(cases)} case{'s' * (len(cases) != 1)}"]
    parts += [f'<span class="bad">{failed} failed</span>'] if failed else []
    parts += [f'<span class="bad">{outside} outside the training domain</span>'] if outside else []
    return ", ".join(parts) + "."


def _item(case: IndexEntry, number: int) -> str:
    name = text(case.name)
    link = f"{url_below(case.folder)}/report.html" if case.folder and case.status in _DONE else ""
    alt = f"Three slices of {name} with outlines"
    picture = (
        f'<img src="{url_below(case.thumbnail)}" alt="{alt}" loading="lazy" width="1200" height="520">'
        if case.thumbnail
        else '<span class="none">no picture</span>'
    )
    picture = (
        f'<a class="picture" href="{link}" tabindex="-1">{picture}</a>'
        if link
        else f'<span class="picture">{picture}</span>'
    )
    title = f'<a class="open" href="{link}">{name}</a>' if link else name
    return (
        f'<li class="case" data-case="{name}" tabindex="-1" aria-labelledby="c{number}">{picture}'
        f'<div class="about"><h2 id="c{number}">{title}</h2>{_about(case)}</div>'
        f'<div class="decide" role="group" aria-label="Decision on {name}"><div class="buttons">'
        '<button type="button" data-decision="accept" aria-pressed="false">Accept</button>'
        '<button type="button" data-decision="redo" aria-pressed="false">Redo</button></div>'
        f'<input type="text" class="note" placeholder="Note" aria-label="Note on {name}"></div></li>'
    )


def _about(case: IndexEntry) -> str:
    lines = []
    if case.status not in _DONE:
        lines.append(f'<p class="bad"><b>{text(case.status.capitalize())}.</b> {text(case.reason)}</p>')
    elif case.status != "done":
        words = "Kept as it was edited by hand" if case.status == "kept" else case.status.capitalize()
        lines.append(f'<p class="quiet">{text(words)}</p>')
    if case.warning:
        lines.append(f'<p class="bad"><b>{text(case.warning)}</b></p>')
    numbers = []
    if case.predicted_dice is not None:
        numbers.append(f"lowest predicted Dice <b>{case.predicted_dice:.2f}</b>")
    if case.doubt is not None:
        numbers.append(f"mean entropy <b>{case.doubt:.3f}</b>")
    lines += [f'<p class="quiet">{", ".join(numbers)}</p>'] if numbers else []
    flags = "".join(f'<span class="flag">{text(f)}</span>' for f in case.flags.split("; ") if f)
    lines += [f"<p>{flags}</p>"] if flags else []
    return "".join(lines)
