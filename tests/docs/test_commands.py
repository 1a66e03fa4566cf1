"""Commands in the documentation exist, with every option that is shown; so do files of the project that it names."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import typer.main

from medseg.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("bundles/*/docs/README.md")],
)
_BLOCK = re.compile(r"^```\w*\n(.*?)^```$|^(?: {4}.*\n)+", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`(medseg [^`]+)`")
_OPTION = re.compile(r"(?<!\S)--?[a-z][\w-]*")


def shown(text: str) -> list[str]:
    """Every `medseg ...` of a page: lines of blocks, joined where a backslash ends them, and code in sentences."""
    blocks = [hit.group().replace("\\\n", " ") for hit in _BLOCK.finditer(text)]
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    prose = _BLOCK.sub("", text)
    return [line for line in lines if line.startswith("medseg ")] + [
        " ".join(hit.split()) for hit in _SPAN.findall(prose)
    ]


@cache
def cli():
    return typer.main.get_command(app)


def wrong(line: str) -> str | None:
    """What is wrong with a command line, or None."""
    command = cli()
    known = {"--debug"} | options(command)
    for word in re.split(r"[ |<>;]+", line)[1:]:
        if not hasattr(command, "commands") or word.startswith("-"):
            break
        if word not in command.commands:
            return f"no command {word!r}"
        command = command.commands[word]
        known |= options(command)
    unknown = [option for option in _OPTION.findall(re.split(r"[|;>]", line)[0]) if option not in known]
    return f"no option {', '.join(unknown)}" if unknown else None


def options(command) -> set[str]:
    return {"-h", "--help"} | {name for param in command.params for name in (*param.opts, *param.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_are_as_shown(page):
    text = page.read_text(encoding="utf-8")
    assert {line: why for line in shown(text) if (why := wrong(line))} == {}


def test_what_is_wrong_is_found():
    assert wrong("medseg predict scans -o out -b x --uncertainty mc") is None
    assert wrong("medseg bundle check BUNDLE") is None
    assert wrong("medseg predikt scans") == "no command 'predikt'"
    assert wrong("medseg predict scans --uncertainly mc") == "no option --uncertainly"
    assert wrong("medseg bundle chek B") == "no command 'chek'"
    assert shown("```\nmedseg demo \\\n  -o out   # words\n```\nand `medseg view OUT`\n") == [
        "medseg demo    -o out",
        "medseg view OUT",
    ]


def test_the_pages_show_commands():
    assert sum(len(shown(page.read_text(encoding="utf-8"))) for page in PAGES) > 60


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(page):
    named = re.findall(
        r"`((?:scripts|medseg|tests|configs/(?:evaluation|hardware|federation))/[\w./-]+\w)`",
        page.read_text(encoding="utf-8"),
    )
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []
