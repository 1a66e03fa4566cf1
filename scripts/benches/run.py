"""Entry of `scripts/bench NAME [--quick] [--json]`: runs scripts/benches/NAME.py's `rows(quick)`, shows the rows.

A row is {"case", "peer", "ratio", "medseg", "theirs", "unit"}; ratio > 1 means medseg is ahead.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent


def load(name: str):
    """The module scripts/benches/NAME.py."""
    sys.path.insert(0, str(HERE))  # benches may share a helper file
    spec = importlib.util.spec_from_file_location(f"bench_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def number(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    names = sorted(path.stem for path in HERE.glob("*.py") if is_bench(path))
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=names)
    parser.add_argument("--quick", action="store_true", help="small volumes, few repeats: does it run at all")
    parser.add_argument("--json", action="store_true", help="the rows as JSON on stdout")
    args = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # peers print; stdout is for the rows
        rows = load(args.name).rows(quick=args.quick)
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("case", "peer", "ratio", "medseg", "theirs", "unit", title=args.name)
    for row in rows:
        table.add_row(*(number(row[key]) for key in ("case", "peer", "ratio", "medseg", "theirs", "unit")))
    Console().print(table)


def is_bench(path: Path) -> bool:
    return re.search(r"^def rows\(", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


if __name__ == "__main__":
    main()
