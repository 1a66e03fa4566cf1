"""Trust in a bundle whose config or scripts run code: given by the user, bound to the content of every file.

`medseg bundle trust PATH` stores the sha256 of every file of the bundle in the user's own settings. Only while
all of them are as they were is the bundle's code run; a changed, added or removed file withdraws the trust.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import BundleError
from medseg.writers.atomic import sha256, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping


def settings_dir() -> Path:
    """The user's settings folder: %LOCALAPPDATA%, ~/Library/Application Support or $XDG_CONFIG_HOME (~/.config)."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "medseg"


def fingerprint(root: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file of a bundle, links followed; Python's own caches left out.

    Python would believe a planted cache file, so a trusted bundle is run without reading caches (see `load`).
    """
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.relative_to(root).parts:
            found[path.relative_to(root).as_posix()] = sha256(path)
    return found


def trust_bundle(root: Path) -> dict[str, str]:
    """Remember that the user trusts this bundle as it is now; returns what was remembered.

    Raises:
        OutputError: the settings cannot be written.
    """
    files = fingerprint(root)
    known = _known()
    known[str(root.resolve())] = files
    folder = settings_dir()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "trusted.json", known)
    return files


def is_trusted(root: Path) -> bool:
    """Whether the user trusts this bundle.

    Raises:
        BundleError: MS-B142 when it was trusted and has changed since, naming the files.
    """
    before: Mapping[str, str] | None = _known().get(str(root.resolve()))
    if before is None:
        return False
    now = fingerprint(root)
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise BundleError(
            "MS-B142",
            f"it was trusted and has changed since: {', '.join(changed[:5])}{more}",
            file=root,
            mend=f"look at what changed, then type again: medseg bundle trust {root}",
        )
    return True


def _known() -> dict[str, dict[str, str]]:
    path = settings_dir() / "trusted.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BundleError("MS-B143", f"cannot be read: {error}", file=path, mend="mend or delete the file") from error
    return known if isinstance(known, dict) else {}
