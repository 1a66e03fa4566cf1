"""Where 3D Slicer is installed on this machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Slicer unpacks into a folder that bears its version; where people put it differs between systems.
_FOLDERS = {
    "win32": ("{LOCALAPPDATA}/slicer.org", "{LOCALAPPDATA}/NA-MIC", "{PROGRAMFILES}"),
    "darwin": ("/Applications", "{HOME}/Applications"),
    "linux": ("/opt", "/usr/local", "{HOME}", "{HOME}/Applications", "{HOME}/Downloads"),
}
_PATTERNS = {
    "win32": ("Slicer*/Slicer.exe", "3D Slicer*/Slicer.exe"),
    "darwin": ("Slicer*.app/Contents/MacOS/Slicer",),
    "linux": ("Slicer*/Slicer", "slicer*/Slicer"),
}


def find_slicer(
    environ: Mapping[str, str] = os.environ, *, platform: str = sys.platform, folders: Iterable[Path] | None = None
) -> Path | None:
    """The Slicer executable: $SLICER_EXECUTABLE, else on PATH, else the newest in the usual folders, else None."""
    named = environ.get("SLICER_EXECUTABLE")
    if named:
        return Path(named) if Path(named).is_file() else None
    for name in ("Slicer", "slicer"):
        found = shutil.which(name, path=environ.get("PATH", ""))
        if found:
            return Path(found)
    places = _usual_folders(environ, platform) if folders is None else folders
    patterns = _PATTERNS.get(platform, _PATTERNS["linux"])
    hits = [path for place in places for pattern in patterns for path in place.glob(pattern) if path.is_file()]
    return max(hits, key=lambda path: path.stat().st_mtime, default=None)


def _usual_folders(environ: Mapping[str, str], platform: str) -> list[Path]:
    known = {"HOME": str(Path.home())} | {k: environ[k] for k in ("LOCALAPPDATA", "PROGRAMFILES") if k in environ}
    folders = []
    for template in _FOLDERS.get(platform, _FOLDERS["linux"]):
        try:
            folders.append(Path(template.format_map(known)))
        except KeyError:  # this Windows variable is not set
            continue
    return folders
