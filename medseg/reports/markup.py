"""The few pieces of HTML that every page is made of. What others wrote passes through `text`."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def text(value: object) -> str:
    """Any value as text that is safe between tags and inside quoted attributes."""
    return escape(str(value), quote=True)


def section(anchor: str, title: str, *parts: str) -> str:
    """A part of the page, to which the contents lead."""
    return f'<section id="{anchor}" aria-labelledby="{anchor}-h"><h2 id="{anchor}-h">{text(title)}</h2>{"".join(parts)}</section>'


def paragraph(words: str, kind: str = "") -> str:
    """`words` is HTML already."""
    return f"<p{_class(kind)}>{words}</p>"


def table(
    caption: str, head: Sequence[str | tuple[str, str]], rows: Iterable[str], *, foot: str = "", kind: str = ""
) -> str:
    """A table in a frame of its own, which scrolls sideways where the page is narrow.

    Args:
        caption: read out before it, plain text.
        head: HTML of the columns' headers, or (class, HTML); the first is over the rows' headers.
        rows: of `row`.
        foot: HTML of one more row.
        kind: CSS class; 'stack' makes each row a block on narrow pages, for which the roles are spelt out.
    """
    named = (h if isinstance(h, tuple) else ("", h) for h in head)
    heads = "".join(f'<th scope="col" role="columnheader"{_class(kind)}>{h}</th>' for kind, h in named)
    below = f'<tfoot role="rowgroup">{foot}</tfoot>' if foot else ""
    scrolls = "" if "stack" in kind else f' role="region" tabindex="0" aria-label="{text(caption)}"'
    return (
        f'<div class="wide"{scrolls}><table role="table"{_class(kind)}>'
        f"<caption>{text(caption)}</caption>"
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(rows)}</tbody>{below}</table></div>'
    )


def row(head: str, cells: Iterable[str | tuple[str, str, str]], kind: str = "") -> str:
    """One row.

    Args:
        head: HTML of its header.
        cells: HTML of each, or (class, what to call it where columns are not seen, HTML).
        kind: CSS class.
    """
    out = [f'<tr role="row"{_class(kind)}><th scope="row" role="rowheader">{head}</th>']
    for cell in cells:
        if isinstance(cell, str):
            out.append(f'<td role="cell">{cell}</td>')
        else:
            name, label, content = cell
            out.append(f'<td role="cell"{_class(name)} data-label="{text(label)}">{content}</td>')
    return "".join(out) + "</tr>"


def inline_svg(svg: str) -> str:
    """An SVG file's picture as a part of a page: without prologue, metadata and the addresses of its namespaces.

    Raises:
        ValueError: it holds no picture.
    """
    start = svg.find("<svg")
    if start < 0:
        msg = f"an SVG holds <svg, got {svg[:40]!r}"
        raise ValueError(msg)
    bare = re.sub(r"<metadata>.*?</metadata>", "", svg[start:], flags=re.DOTALL)
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", bare).strip()


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
