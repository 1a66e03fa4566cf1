"""What every command prints with: tables and messages to stderr, JSON alone to stdout."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from medseg.errors import ChoiceError, MedsegError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

OFF_TERMINAL_WIDTH = 10_000
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "refused": "bold red"}


def stderr() -> Console:
    """A console on standard error; off a terminal it is so wide that no cell of a table is folded (logs, grep).

    Of several processes on one terminal (torchrun) the first alone draws bars.
    """
    from rich.console import Console

    alone = os.environ.get("RANK", "0") in ("", "0")
    console = Console(stderr=True, highlight=False, soft_wrap=False, force_terminal=None if alone else False)
    if not console.is_terminal:
        console.width = OFF_TERMINAL_WIDTH
    return console


def show_json(data: Any) -> None:
    """Write `data` to standard output as one JSON document."""
    sys.stdout.write(json.dumps(data, indent=1, default=str, allow_nan=False) + "\n")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table; the verdict words ok, warn, fail and refused are coloured, control characters escaped."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        cells = ["\n".join(printable(line) for line in str(cell).splitlines()) for cell in row]
        table.add_row(*(Text(cell, style=_STYLES.get(cell.split(":")[0], "")) for cell in cells))
    stderr().print(table)


def show_error(error: MedsegError) -> None:
    """Print an error that medseg raised on purpose: code, what was found, where, and the mend."""
    from rich.text import Text

    lines = [Text.assemble(("error ", "bold red"), (error.code, "bold"), ": ", printable(error.what))]
    if error.file is not None:
        lines.append(Text(f"  in {printable(error.file)}"))
    if isinstance(error, ChoiceError):
        lines.extend(Text(f"     {printable(line)}") for line in error.candidates)
    lines.append(Text.assemble(("  -> ", "bold"), printable(error.mend)))
    _print_whole(lines)


def show_crash(error: Exception) -> None:
    """Print an error that nobody foresaw, and how to report it."""
    from rich.text import Text

    lines = [
        Text.assemble(("error: ", "bold red"), "medseg met something it did not expect (a bug): "),
        Text(f"  {type(error).__name__}: {printable(str(error))}"),
        Text.assemble(("  -> ", "bold"), "run the same command with --debug and report what it prints"),
    ]
    _print_whole(lines)


def show_lines(lines: Iterable[str]) -> None:
    """Print lines unwrapped, so that a command in them can be copied whole; control characters escaped."""
    from rich.text import Text

    _print_whole(Text(printable(line)) for line in lines)


def _print_whole(lines: Iterable[Any]) -> None:
    console = stderr()
    for line in lines:
        console.print(line, soft_wrap=True)
