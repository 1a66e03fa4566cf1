"""Which command starts medseg."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLib.errors import MedSegError

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "MEDSEG_EXECUTABLE"
INSTALL = (
    "install medseg into a Python environment of its own (python3 -m venv medseg-env, then "
    "medseg-env/bin/pip install medseg) and choose medseg-env under Settings in this module"
)
#: python, python3, python3.12, pythonw.exe; PythonSlicer is not meant: medseg does not live in Slicer.
_PYTHON = re.compile(r"pythonw?(\d+(\.\d+)?)?(\.exe)?", re.IGNORECASE)


def find_medseg(setting: str = "", environ: Mapping[str, str] = os.environ) -> list[str]:
    """The words that start medseg: the setting, else $MEDSEG_EXECUTABLE, else `medseg` on the PATH.

    Args:
        setting: the medseg executable, a Python interpreter that has medseg, or the folder of its environment.
        environ: variables of the environment that medseg will run in.

    Returns:
        `[".../medseg"]`, or `[".../python", "-m", "medseg"]`.

    Raises:
        MedSegError: what was named does not exist or cannot be run, or nothing was named and nothing found.
    """
    for named, origin in ((setting, "in the settings"), (environ.get(VARIABLE, ""), f"in ${VARIABLE}")):
        if named.strip():
            return _words(Path(named.strip()).expanduser(), origin)
    found = shutil.which("medseg", path=environ.get("PATH", ""))
    if found:
        return [str(Path(found).absolute())]
    what = "medseg was not found: nothing is set, and there is no medseg on the PATH"
    raise MedSegError(what, INSTALL)


def _words(path: Path, origin: str) -> list[str]:
    if path.is_dir():
        return [str(_in_environment(path, origin))]
    if not path.is_file():
        what = f"the medseg executable named {origin} does not exist"
        raise MedSegError(what, INSTALL, file=str(path))
    if not os.access(path, os.X_OK):
        what = f"the file named {origin} is not a program"
        raise MedSegError(what, "choose the medseg executable, or the Python that has medseg", file=str(path))
    # not resolved: the python of a virtual environment is a link, and what it is depends on where the link lies
    path = path.absolute()
    return [str(path), "-m", "medseg"] if _PYTHON.fullmatch(path.name) else [str(path)]


def _in_environment(folder: Path, origin: str) -> Path:
    folder = folder.absolute()
    for place in ("bin/medseg", "Scripts/medseg.exe", "medseg", "medseg.exe"):
        path = folder / place
        if path.is_file() and os.access(path, os.X_OK):
            return path
    what = f"the folder named {origin} holds no medseg (looked for bin/medseg and Scripts/medseg.exe)"
    raise MedSegError(what, INSTALL, file=str(folder))
