"""What metadata.json must say, and in which form."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_VERSION = r"\d+\.\d+\.\d+([a-zA-Z0-9.+-]*)?"
_TEXTS = ("name", "task", "description", "authors", "copyright", "intended_use")
_TENSOR = ("type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def")


def metadata_problems(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Every departure of metadata.json from the bundle specification and from what medseg adds to it."""
    if not str(metadata.get("schema", "")).startswith("https://"):
        yield "`schema` is no https address"
    for key in ("version", "monai_version", "pytorch_version", "numpy_version"):
        if not re.fullmatch(_VERSION, str(metadata.get(key, ""))):
            yield f"`{key}` must be a version such as 1.2.3, found {metadata.get(key)!r}"
    for key in _TEXTS:
        if not isinstance(metadata.get(key), str) or not metadata[key].strip():
            yield f"`{key}` must be a text"
    if metadata.get("version") not in list(metadata.get("changelog") or {}):
        yield "`changelog` has no entry for this version"
    if not isinstance(metadata.get("required_packages_version"), dict):
        yield "`required_packages_version` must be a table (optional_packages_version is its old name)"
    described = metadata.get("network_data_format")
    if not isinstance(described, dict):
        yield "`network_data_format` must be a table"
        return
    for side, name in (("inputs", "image"), ("outputs", "pred")):
        tensors = described.get(side)
        tensors = tensors if isinstance(tensors, dict) else {}
        if next(iter(tensors), None) != name:
            yield f"the first of network_data_format's {side} must be `{name}`"
        for key, tensor in tensors.items():
            yield from _tensor(f"{side}.{key}", tensor if isinstance(tensor, dict) else {})


def fake_shape(spatial_shape: Sequence[int | str]) -> tuple[int, ...]:
    """The smallest shape that metadata.json's spatial_shape stands for: n = p = any = 1, as MONAI takes them.

    Raises:
        ValueError: an entry is neither a whole number, "*", nor arithmetic on n and p such as "16*n" or "2**p".
    """
    return tuple(_size(entry) for entry in spatial_shape)


def _tensor(where: str, tensor: Mapping[str, Any]) -> Iterator[str]:
    missing = [key for key in _TENSOR if key not in tensor]
    if missing:
        yield f"{where} lacks {', '.join(missing)}"
        return
    try:
        shape = fake_shape(tensor["spatial_shape"])
    except (ValueError, TypeError) as error:
        yield f"{where}.spatial_shape: {error}"
    else:
        if len(shape) != 3:
            yield f"{where}.spatial_shape has {len(shape)} entries, 3 are wanted"
    expected = {str(n) for n in range(int(tensor["num_channels"]))}
    if set(tensor["channel_def"]) != expected:
        yield f"{where}.channel_def must name channels 0 to {int(tensor['num_channels']) - 1}"


def _size(entry: int | str) -> int:
    if isinstance(entry, int):
        return entry
    if entry == "*":
        return 1
    tree = ast.parse(str(entry), mode="eval")
    for node in ast.walk(tree):
        known = ast.Expression | ast.BinOp | ast.Mult | ast.Pow | ast.Add | ast.Sub | ast.Load | ast.Constant
        if not (isinstance(node, known) or (isinstance(node, ast.Name) and node.id in "np")):
            msg = f"{entry!r} is no arithmetic on n and p"
            raise ValueError(msg)
    return _value(tree.body)


def _value(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and 0 <= node.value <= 4096:
        return node.value
    if isinstance(node, ast.Name):
        return 1
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow):
            if right > 16:
                msg = "a power above 16"
                raise ValueError(msg)
            return left**right
        return {ast.Mult: left * right, ast.Add: left + right, ast.Sub: left - right}[type(node.op)]
    msg = f"{ast.unparse(node)!r} is no whole number up to 4096"
    raise ValueError(msg)
