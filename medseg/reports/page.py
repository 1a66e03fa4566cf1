"""What every page has around its content: head, style, the words at its foot, its scripts, and what it may load."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import quote

from medseg.reports.markup import text

if TYPE_CHECKING:
    from collections.abc import Sequence


def whole_page(
    title: str,
    body: str,
    *,
    styles: Sequence[str],
    scripts: Sequence[str] = (),
    images: str = "data:",
    scheme: str = "dark",
    data: str = "",
) -> str:
    """The page as one string. A content policy in its head forbids it to load or send anything but its images.

    Args:
        title: of the page, plain text.
        body: HTML of all that is seen, up to the foot.
        styles: names of resources.
        scripts: their text; no other script runs.
        images: where they may come from, as a policy says it: 'data:', or "'self' file: data:" for files beside it.
        scheme: of the colours: 'dark', or 'light dark' as the reader's system has it.
        data: HTML that is not seen, for the scripts.
    """
    style = "\n".join(resource(name) for name in styles)
    ours = "".join(f"<script>{script}</script>" for script in scripts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(images, scripts)}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="{scheme}">'
        f"<style>{style}</style></head><body>{body}"
        "<footer><p>Research use only. Not a medical device; not for diagnosis or treatment.</p></footer>"
        f"{data}{ours}</body></html>\n"
    )


def resource(name: str) -> str:
    """A style or a script of this room, by its path in it."""
    return files("medseg.reports").joinpath(*name.split("/")).read_text(encoding="utf-8")


def url_below(path: str) -> str:
    """A path below a page as a relative URL, safe inside quoted attributes.

    Raises:
        ValueError: it leads out of the page's folder.
    """
    parts = path.replace("\\", "/").split("/")
    if path.startswith(("/", "\\")) or ".." in parts:
        msg = f"what a page shows lies below it, and its path is relative, got {path!r}"
        raise ValueError(msg)
    # quote() encodes ':' too, so that no part reads as a scheme.
    return text(quote("/".join(p for p in parts if p not in ("", ".")), safe="/"))


def _policy(images: str, scripts: Sequence[str]) -> str:
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    ours = f"script-src {allowed}; " if scripts else ""
    return f"default-src 'none'; img-src {images}; style-src 'unsafe-inline'; {ours}base-uri 'none'; form-action 'none'"
