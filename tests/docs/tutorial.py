"""A tutorial is a page whose blocks run from top to bottom, in one folder, as a reader would type them.

    ```shell      one `bash -euo pipefail`
    ```python     one namespace for the whole page
    ```text       right below a block: what it prints, compared

In what is shown `...` stands for anything (alone on a line: any lines), runs of spaces, rules of tables and blank lines do
not count, and numbers with a decimal point agree to 2 % or to the last digit shown: other processors round otherwise.

`python tests/docs/tutorial.py docs/tutorials/predict.md` runs one in the current folder and shows what every block prints.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TOKEN = re.compile(r"(\.\.\.|-?\d+\.\d+)")


@dataclass(frozen=True)
class Block:
    """A fenced block that runs.

    Args:
        kind: shell or python.
        text: what it holds.
        line: of the page, where `text` begins.
        shown: what the page says it prints; None where it says nothing.
    """

    kind: str
    text: str
    line: int
    shown: str | None = None


def blocks(page: str) -> list[Block]:
    """The blocks of a page in order; ValueError for a `text` block without one that runs right above it."""
    found: list[Block] = []
    end = 0
    for fence in _FENCE.finditer(page):
        kind, text = fence.groups()
        line = page.count("\n", 0, fence.start(2)) + 1
        if kind in ("shell", "python"):
            found.append(Block(kind, text, line))
        elif kind == "text":
            if not found or found[-1].shown is not None or page[end : fence.start()].strip():
                msg = f"line {line}: output is shown that no block right above it prints"
                raise ValueError(msg)
            found[-1] = replace(found[-1], shown=text)
        end = fence.end()
    return found


def run(block: Block, namespace: dict[str, object]) -> str:
    """What a block prints, on both streams; RuntimeError with it where the block fails."""
    if block.kind == "shell":
        command = ["bash", "-euo", "pipefail", "-c", block.text]
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if ran.returncode:
            msg = f"line {block.line}: exit code {ran.returncode}\n{ran.stdout}"
            raise RuntimeError(msg)
        return ran.stdout
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        exec(compile("\n" * (block.line - 1) + block.text, "<tutorial>", "exec"), namespace)
    return printed.getvalue()


def agrees(shown: str, printed: str) -> bool:
    """Whether the output is what the page shows, by the rules of this file."""
    return _lines_agree(_normal(shown), _normal(printed))


def _normal(text: str) -> list[str]:
    lines = (re.sub(r"─+", "─", re.sub(r"\s+", " ", line)).strip() for line in text.splitlines())
    return [line for line in lines if line]


def _lines_agree(shown: list[str], printed: list[str]) -> bool:
    """Every shown line in its place; "..." takes as few lines as will do."""
    if not shown:
        return not printed
    if shown[0] == "...":
        return any(_lines_agree(shown[1:], printed[n:]) for n in range(len(printed) + 1))
    return bool(printed) and _line_agrees(shown[0], printed[0]) and _lines_agree(shown[1:], printed[1:])


def _line_agrees(shown: str, printed: str) -> bool:
    parts = _TOKEN.split(shown)
    numbers = [part for part in parts[1::2] if part != "..."]
    pattern = "".join(
        re.escape(part) if n % 2 == 0 else ".*?" if part == "..." else r"(-?\d+\.\d+)" for n, part in enumerate(parts)
    )
    hit = re.fullmatch(pattern, printed)
    return hit is not None and all(_close(*pair) for pair in zip(numbers, hit.groups(), strict=True))


def _close(shown: str, printed: str) -> bool:
    last = 10.0 ** -len(shown.split(".")[1])
    return abs(float(shown) - float(printed)) <= max(1.001 * last, 0.02 * abs(float(shown)))


def main(path: str) -> int:
    """Run a page in the current folder; 1 where a block fails or prints something else than shown."""
    namespace: dict[str, object] = {"__name__": "tutorial"}
    differs = 0
    for block in blocks(Path(path).read_text(encoding="utf-8")):
        _say(f"{Path(path).name}:{block.line} {block.kind}", block.text)
        printed = run(block, namespace)
        _say("printed", printed)
        if block.shown is not None and not agrees(block.shown, printed):
            differs = 1
            _say("but the page shows", block.shown)
    return differs


def _say(what: str, text: str) -> None:
    sys.stdout.write(f"--- {what}\n{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
