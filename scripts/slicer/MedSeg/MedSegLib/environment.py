"""The variables that medseg runs with: those of the machine, not those of Slicer.

Slicer's launcher points PYTHONHOME, PYTHONPATH and the library paths at its own Python, Qt and ITK. Another Python
that inherits them does not start, or loads Slicer's libraries.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Never right for another interpreter, whoever set them; the last ones would make output off a terminal a moving bar.
NEVER = ("PYTHONHOME", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE")
#: Slicer's launcher sets these; what the user had in them before Slicer, only Slicer itself knows.
SLICERS = (
    "PYTHONPATH",
    "PYTHONNOUSERSITE",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "DYLD_FRAMEWORK_PATH",
    "QT_PLUGIN_PATH",
    "ITK_AUTOLOAD_PATH",
    "SLICER_HOME",
)
#: Lines arrive as they are written, in UTF-8 on every system, without colours.
OURS = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "TERM": "dumb"}


def clean_environment(
    environ: Mapping[str, str] = os.environ, startup: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment for medseg.

    Args:
        environ: that of this process.
        startup: what `slicer.util.startupEnvironment()` gave: the environment before Slicer's launcher. None outside
            the application; then everything that the launcher may have set is taken out of `environ`.
    """
    if startup is not None:
        base = dict(startup)
    else:
        base = {key: value for key, value in environ.items() if key.upper() not in SLICERS}
        home = environ.get("SLICER_HOME", "")
        if home and "PATH" in base:
            places = base["PATH"].split(os.pathsep)
            base["PATH"] = os.pathsep.join(place for place in places if not _inside(place, home))
    return {key: value for key, value in base.items() if key.upper() not in NEVER} | OURS


def _inside(place: str, home: str) -> bool:
    return bool(place) and (Path(place) == Path(home) or Path(home) in Path(place).parents)
