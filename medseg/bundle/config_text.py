"""Configs as people write them: four spaces, and short lists and tables of plain values on one line."""

from __future__ import annotations

import json
from typing import Any

_WIDTH = 110


def config_text(data: Any) -> str:
    """JSON text of plain data, ending with a newline; `json.loads` gives the data back.

    Raises:
        ValueError: NaN or infinity, for which JSON has no word.
    """
    return _text(data, 0) + "\n"


def _text(node: Any, depth: int) -> str:
    line = json.dumps(node, ensure_ascii=False, allow_nan=False)
    if not isinstance(node, dict | list) or not node:
        return line
    if _on_one_line(node) and len(line) + 4 * depth <= _WIDTH:
        return line
    pad, end = "    " * (depth + 1), "    " * depth
    if isinstance(node, dict):
        rows = [
            f"{pad}{json.dumps(str(key), ensure_ascii=False)}: {_text(value, depth + 1)}" for key, value in node.items()
        ]
        return "{\n" + ",\n".join(rows) + f"\n{end}}}"
    if all(isinstance(value, str) for value in node):
        rows = [pad + json.dumps(value, ensure_ascii=False) for value in node]
    else:
        rows = [pad + _text(value, depth + 1) for value in node]
    return "[\n" + ",\n".join(rows) + f"\n{end}]"


def _on_one_line(node: Any) -> bool:
    """Lists of values, and lists of such lists; tables only as long as they are no component."""
    if isinstance(node, list):
        return all(not isinstance(v, dict) and (not isinstance(v, list) or _on_one_line(v)) for v in node)
    return "_target_" not in node and len(node) <= 2 and not any(isinstance(v, dict) for v in node.values())
