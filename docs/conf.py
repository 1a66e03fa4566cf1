"""The documentation's site: `python -m sphinx -W docs build/docs`, then open build/docs/index.html.

The pages are the Markdown files of this folder, the API reference is read from docstrings, and the page of error codes is
put together from errors/?-*.md, which stay one file a room so that they can be read beside the code.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.util.inspect import signature, stringify_signature

import medseg

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
ERRORS = "errors/README"
ROOT_PAGES = ("contributing", "security", "changelog")
_LETTERED = r"[A-Z]-[a-z-]+\.md"
_ERROR = r"(?<![\w/[-])MS-[A-Z]\d{3}\b"
_AS_IT_STANDS = re.compile(r"(^```.*?^```|`[^`\n]*`|^#.*?$)", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`[^`]+`)")
_SECTION = re.compile(r"(Args|Attributes|Example|Returns|Raises|Yields):$")

project = "medseg"
author = "The medseg authors"
version = release = medseg.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["errors/?-*.md"]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # an attribute is listed once, in its class

html_theme = "furo"
html_title = f"medseg {release}"
html_copy_source = False
html_show_sphinx = False


def page_of_the_root(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Pages that lie in the project's root are pages of the site too, with their links turned to where they are now."""
    if docname in ROOT_PAGES:
        text = (HERE.parent / f"{docname.upper()}.md").read_text(encoding="utf-8")
        text = re.sub(r"\]\(docs/", "](", text)
        source[0] = re.sub(r"\]\(([A-Z]+\.md)\)", lambda hit: f"]({hit[1].lower()})", text)


def one_page_of_errors(app: Sphinx, docname: str, source: list[str]) -> None:
    """Append every room's codes to the index of errors, and make codes and links to the rooms' files links into it."""
    if docname == ERRORS:
        pages = sorted((HERE / "errors").glob("?-*.md"))
        for page in pages:
            app.env.note_dependency(page)
        texts = [re.sub(r"^# ", "## ", page.read_text(encoding="utf-8")) for page in pages]
        anchored = [f"({page.stem})=\n{text}" for page, text in zip(pages, texts, strict=True)]
        source[0] = "\n\n".join([source[0], *anchored])
    else:
        to_codes = "../" * docname.count("/") + "errors/README.md"
        parts = _AS_IT_STANDS.split(source[0])
        parts[::2] = [
            re.sub(_ERROR, lambda hit: f"[{hit[0]}]({to_codes}#{hit[0].lower()})", part) for part in parts[::2]
        ]
        source[0] = "".join(parts)
    source[0] = re.sub(rf"\]\((?:errors/)?({_LETTERED})\)", lambda hit: f"](#{hit[1].removesuffix('.md')})", source[0])


def from_markdown(_app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Docstrings are written to be read in the code: `names` and indented examples become reStructuredText.

    A room's own docstring lists its files, for who reads the code; the page has a heading instead.
    """
    text = "\n".join(lines)
    lines[:] = [] if what == "module" else _examples("".join(_inline(part) for part in _CODE.split(text)).split("\n"))


def _inline(part: str) -> str:
    """`code` with two backticks; stars and bars of formulas as they are."""
    if _CODE.fullmatch(part):
        return f"`{part}`"
    return "\n".join(
        line if line.lstrip().startswith((">>>", "...")) or _SECTION.match(line) else re.sub(r"([*|])", r"\\\1", line)
        for line in part.split("\n")
    )


def _examples(lines: list[str]) -> list[str]:
    """Indented paragraphs before the first section are examples, shown as they stand."""
    out: list[str] = []
    example = False
    for n, line in enumerate(lines):
        if _SECTION.match(line):
            return [*out, *lines[n:]]
        indented = line.startswith("    ") and not line.lstrip().startswith(">>>")
        if indented and not example and (not out or not out[-1].strip()):
            out += ["::", ""]
            example = True
        elif line.strip() and not indented:
            example = False
        out.append(line.replace("\\*", "*").replace("\\|", "|").replace("``", "`") if example else line)
    return out


def of_the_constructor(
    _app: Sphinx, what: str, _name: str, obj: type, _options: object, shown: str, _returns: str
) -> tuple[str, None] | None:
    """MONAI's transforms have a `__new__` of any arguments, which hides the arguments that they take."""
    if what != "class" or shown != "(*args, **kwargs)":
        return None
    return stringify_signature(signature(obj.__init__, bound_method=True), unqualified_typehints=True), None


def setup(app: Sphinx) -> None:
    """Sphinx's hook."""
    app.connect("autodoc-process-signature", of_the_constructor)
    app.connect("autodoc-process-docstring", from_markdown, priority=400)  # before napoleon
    app.connect("source-read", page_of_the_root, priority=400)
    app.connect("source-read", one_page_of_errors)
