"""`medseg view`: the results of a case in 3D Slicer, or in the browser where there is no Slicer."""

from __future__ import annotations

import os
import subprocess
import sys
import webbrowser
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from medseg.errors import ChoiceError, InputError, UsageError
from medseg.reports.scene import SCENE
from medseg.workflows.record import read_record
from medseg.workflows.slicer import find_slicer

if TYPE_CHECKING:
    from collections.abc import Callable

REPORT, INDEX = "report.html", "index.html"
_RECORD = "record.json"
_SHOWN = 10


@dataclass(frozen=True)
class Opening:
    """What would be opened, and with what.

    Args:
        path: the scene, or a page; absolute.
        slicer: the Slicer executable; None: the browser.
        note: why it is not what one would expect, or "".
    """

    path: Path
    slicer: Path | None = None
    note: str = ""


def what_to_view(
    out: str | os.PathLike[str], case: str | None = None, *, slicer: Callable[[], Path | None] = find_slicer
) -> Opening:
    """The file that shows a result best on this machine.

    Args:
        out: the output folder of a run, or the folder of one case.
        case: which one; may be left out where there is one case, or an index.html of all.
        slicer: finds the Slicer executable.

    Raises:
        UsageError: MS-U340 no results here, MS-U341 no such case, MS-U344 no Slicer and no page to show instead.
        ChoiceError: MS-U342 several cases.
        InputError: MS-U343 results of a version that made neither scene nor page.
    """
    folder = Path(out)
    cases = {folder.resolve().name: folder} if _is_case(folder) else find_results(folder)
    if not cases:
        raise UsageError(
            "MS-U340",
            "there are no results of medseg here" if folder.exists() else "this folder does not exist",
            file=folder,
            mend="name the folder that was given to medseg predict with -o",
        )
    if case is None and len(cases) > 1:
        if (folder / INDEX).is_file():
            return Opening((folder / INDEX).resolve())
        raise ChoiceError(
            "MS-U342",
            f"it holds the results of {len(cases)} cases",
            file=folder,
            mend="name one of them",
            candidates=[f"medseg view {quote(str(folder))} {quote(name)}" for name in cases],
        )
    if case is not None and case not in cases:
        raise _unknown(case, list(cases), folder)
    return _best(cases[case] if case is not None else next(iter(cases.values())), slicer)


def find_results(out: Path) -> dict[str, Path]:
    """Case -> its folder, of every case under OUT, or under OUT/details of a --flat run; sorted."""
    places = [path for base in (out, out / "details") if base.is_dir() for path in base.iterdir()]
    return {path.name: path for path in sorted(places) if _is_case(path)}


def open_result(what: Opening) -> None:
    """Start Slicer, which outlives this process, or show the page in the browser.

    Raises:
        UsageError: MS-U345 the program cannot be started.
    """
    if what.slicer is None:
        if not webbrowser.open(what.path.as_uri()):
            raise UsageError(
                "MS-U345", "no browser can be started here", file=what.path, mend="open this file in a browser"
            )
        return
    try:
        subprocess.Popen(
            [str(what.slicer), str(what.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=sys.platform != "win32",
        )
    except OSError as error:
        raise UsageError(
            "MS-U345",
            f"3D Slicer cannot be started ({error.strerror or error})",
            file=what.slicer,
            mend=f"open {what.path} in 3D Slicer yourself, or set SLICER_EXECUTABLE to the right program",
        ) from error


def _is_case(folder: Path) -> bool:
    if any((folder / name).is_file() for name in (SCENE, REPORT)):
        return True
    return "case" in (read_record(folder / _RECORD) or {})


def _best(folder: Path, slicer: Callable[[], Path | None]) -> Opening:
    scene, report = ((folder / name).resolve() for name in (SCENE, REPORT))
    if not scene.is_file() and not report.is_file():
        raise InputError(
            "MS-U343",
            "this result has neither a scene for 3D Slicer nor a page: an earlier medseg made it, or they were removed",
            file=folder,
            mend="run the same medseg predict again with --overwrite, or open image and segmentation in 3D Slicer",
        )
    program = slicer()
    if program is not None and scene.is_file():
        return Opening(scene, program)
    why = "this result has no scene for 3D Slicer" if program is not None else _without_slicer()
    if report.is_file():
        return Opening(report, note=f"{why}; its page opens in the browser")
    raise UsageError(
        "MS-U344",
        f"{why}, and the result has no page to show instead",
        file=scene,
        mend="install 3D Slicer (https://download.slicer.org) or open this scene on a machine that has it",
    )


def _without_slicer() -> str:
    named = os.environ.get("SLICER_EXECUTABLE")
    return f"SLICER_EXECUTABLE names no file ({named})" if named else "3D Slicer was not found"


def _unknown(case: str, names: list[str], folder: Path) -> UsageError:
    near = get_close_matches(case, names, 3, 0.5) or names[:_SHOWN]
    more = f" and {len(names) - len(near)} others" if len(near) < len(names) else ""
    return UsageError(
        "MS-U341",
        f"it holds no case {case!r}, but {', '.join(near)}{more}",
        file=folder,
        mend=f"medseg view {quote(str(folder))} {quote(near[0])}",
    )
