"""What became of a `medseg predict`: the files of its result, or an error in medseg's own words."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from MedSegLib.errors import MedSegError

#: Exit code -> (what it means, what to do), for when medseg itself said no more.
CODES = {
    1: (
        "medseg met something it did not expect (a bug)",
        "run the command below in a terminal with --debug and report what it prints",
    ),
    2: (
        "medseg does not understand its command line",
        "this module and medseg may be of different versions: update the older one",
    ),
    3: ("medseg could not segment this volume", "read the messages below"),
    4: ("the bundle was refused, or has no weights", "choose another bundle, or look at it with `medseg bundle check`"),
    5: ("there was not enough memory", "close other programs, choose the CPU as device, or crop the volume"),
    6: ("some volumes could not be segmented", "read the messages below"),
    7: ("the output folder is in use or not empty", "choose another folder for the results"),
    130: ("medseg was interrupted", "start it again"),
}
#: Key of an uncertainty map -> its title.
MAPS = {"entropy": "Predictive entropy", "mutual_information": "Mutual information"}
_DONE = ("done", "finished before", "kept")
_ERROR = re.compile(r"error (?P<code>MS-[A-Z]\d+): (?P<what>.*)")
_BOX = re.compile(r"[\s\u2500-\u257f]+")


@dataclass(frozen=True)
class Result:
    """The files of a segmented volume.

    Args:
        folder: where they lie.
        segmentation: segmentation.seg.nrrd, or segmentation.nii.gz where there is no other.
        label_map: segmentation.nii.gz.
        maps: "entropy" or "mutual_information" -> the file; empty when no uncertainty was asked for.
        colours: the colour table of the maps.
        measurements: measurements.csv.
        notes: what medseg wants the user to look at.
        outside_domain: what of the scan lies outside the training data, in words.
    """

    folder: Path
    segmentation: Path
    label_map: Path | None = None
    maps: dict[str, Path] = field(default_factory=dict)
    colours: Path | None = None
    measurements: Path | None = None
    notes: tuple[str, ...] = ()
    outside_domain: tuple[str, ...] = ()


def read_outcome(returncode: int, stdout: str, lines: list[str], out: Path) -> Result:
    """The result of a run that has ended.

    Args:
        returncode: its exit code; negative when a signal ended it.
        stdout: its JSON.
        lines: its standard error.
        out: its output folder.

    Raises:
        MedSegError: there is none, with medseg's words where it gave any.
    """
    report = _json(stdout)
    cases = report.get("cases") or []
    case = cases[0] if cases else {}
    if returncode in (0, 6) and case.get("status") in _DONE:
        return _result(case, out)
    raise _error(returncode, case, lines)


def explain(returncode: int, lines: list[str]) -> MedSegError:
    """Why a command failed that writes no report of cases."""
    return _error(returncode, {}, lines)


def _result(case: dict[str, Any], out: Path) -> Result:
    folder = Path(str(case.get("folder", "")))
    if not folder.resolve().is_relative_to(out.resolve()):
        what = "medseg names a result outside the folder that it was given"
        raise MedSegError(what, "update medseg", file=str(folder))
    found = [folder / name for name in ("segmentation.seg.nrrd", "segmentation.nii.gz")]
    found = [path for path in found if path.is_file()]
    if not found:
        what = "medseg says it is done, but there is no segmentation"
        raise MedSegError(what, "look into the folder; report this if it stays so", file=str(folder))
    maps = {key: folder / f"uncertainty_{key}.nii.gz" for key in MAPS}
    return Result(
        folder=folder,
        segmentation=found[0],
        label_map=_file(folder / "segmentation.nii.gz"),
        maps={key: path for key, path in maps.items() if path.is_file()},
        colours=_file(folder / "uncertainty.ctbl"),
        measurements=_file(folder / "measurements.csv"),
        notes=tuple(map(str, case.get("notes", ()))),
        outside_domain=tuple(map(str, case.get("outside_domain", ()))),
    )


def _error(returncode: int, case: dict[str, Any], lines: list[str]) -> MedSegError:
    meaning, mend = CODES.get(returncode, (f"medseg ended with exit code {returncode}", "read the messages below"))
    if returncode < 0:
        meaning = f"medseg was ended by signal {-returncode}" + (
            ", as happens when memory runs out" * (returncode == -9)
        )
        mend = CODES[5][1]
    if case.get("code"):
        return MedSegError(
            str(case.get("what", meaning)),
            str(case.get("mend") or mend),
            code=str(case["code"]),
            file=str(case.get("file", "")),
        )
    for number, line in enumerate(lines):
        found = _ERROR.fullmatch(line.strip())
        if found:
            return _told(found["code"], found["what"], lines[number + 1 :], mend)
    last = _last_words(lines)
    return MedSegError(f"{meaning}: {last}" if last else meaning, mend)


def _told(code: str, what: str, rest: list[str], mend: str) -> MedSegError:
    """An error as medseg prints it: `error CODE: what`, then indented: in FILE, candidates, -> mend."""
    file, more = "", []
    for line in rest:
        text = line.strip()
        if text.startswith("-> "):
            mend = text[3:]
            break
        if line.startswith("  in ") and not file:
            file = text[3:]
        elif line.startswith(" "):
            more.append(text)
        else:
            break
    return MedSegError("\n".join([what, *more]), mend, code=code, file=file)


def _last_words(lines: list[str]) -> str:
    """The last line with words in it, out of the frame that typer draws around usage errors."""
    for line in reversed(lines):
        text = _BOX.sub(" ", line).strip()
        if text and not text.startswith("-> "):
            return text
    return ""


def _json(text: str) -> dict[str, Any]:
    try:
        report = json.loads(text)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None
