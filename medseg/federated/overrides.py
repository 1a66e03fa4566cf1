"""What a job may change of a bundle's train.json: one plain value for another. No code, no component, no place."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from medseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Entries that say where things are, what is run, or which of a site's cases do what: that is the site's to say.
_NEVER = frozenset(
    {
        "imports",
        "bundle_root",
        "dataset_dir",
        "output_dir",
        "ckpt_dir",
        "log_dir",
        "device",
        "initialize",
        "run",
        "finalize",
        "validation",
    }
)
_ID = re.compile(r"[A-Za-z0-9_]+(?:#[A-Za-z0-9_]+)*")
_TEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.,:+-]*")


def check_overrides(overrides: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Let through only plain values that take the place of plain values of the same kind.

    Args:
        overrides: `id -> value`, such as {"learning_rate": 0.001}.
        config: train.json of the bundle.

    Raises:
        UsageError: MS-J015 anything else.
    """
    for key, value in overrides.items():
        parts = str(key).split("#")
        if not isinstance(key, str) or not _ID.fullmatch(key) or parts[0] in _NEVER or any(p[0] == "_" for p in parts):
            raise _refused(key, "is no entry that a job may change")
        found: Any = config
        for part in parts:
            try:
                found = found[int(part)] if isinstance(found, list) else found[part]
            except (KeyError, IndexError, ValueError, TypeError):
                raise _refused(key, "is not in the bundle's train.json") from None
        if not _plain(found) or not _plain(value):
            raise _refused(key, "is, or becomes, more than a plain value")
        if found is not None and value is not None and _kind(found) != _kind(value):
            raise _refused(key, f"is {_kind(found)} in the bundle, and {_kind(value)} in the job")
    return dict(overrides)


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_plain(one) for one in value)
    if isinstance(value, str):
        return bool(_TEXT.fullmatch(value))
    return value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else "a list"


def _refused(key: Any, why: str) -> UsageError:
    mend = "change the bundle itself for more than plain values, and give every site the new one"
    return UsageError("MS-J015", f"{str(key)[:60]!r} {why}", mend=mend)
