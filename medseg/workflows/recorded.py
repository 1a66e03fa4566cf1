"""What records tell, read with care: as a stranger's, before anything in them is used.

A record must be whole (`seal`), have its form (`form`), and name nothing but what medseg puts where medseg puts it.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from medseg.bundle.shipped import find_bundle
from medseg.errors import BundleError, RecordError
from medseg.workflows.form import require_form
from medseg.workflows.layout import CaseFiles
from medseg.workflows.record import versions
from medseg.workflows.seal import read_sealed
from medseg.writers.atomic import sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    Records = Mapping[str, Mapping[str, Any]]

#: In no name of a case or of a bundle's file.
_NEVER = set("\\:\0")
_SHOWN = 5
ANOTHER = "this is another record than the one that the run's record tells of"


def record_kind(record: Mapping[str, Any], path: Path) -> str:
    """'run' or 'case', of a record that has the form of one.

    Raises:
        RecordError: MS-V101 another command's, MS-V109 of another form.
    """
    kind = "run" if "records" in record else "case" if {"outputs", "parameters"} <= set(record) else None
    if kind is None:
        raise RecordError(
            "MS-V101",
            "a record of another command than medseg predict",
            file=path,
            mend="name a folder that medseg predict was given with -o",
        )
    require_form(record, kind, path)
    return kind


def plain_name(name: str) -> bool:
    """Whether a record's word is a name in one folder, and no way elsewhere."""
    return PurePosixPath(name).name == name and name not in ("", "..") and not set(name) & _NEVER


def case_records(path: Path) -> dict[str, dict[str, Any]]:
    """Case -> record, of the record of one case or of all cases of a run that have results.

    Raises:
        RecordError: MS-V101, MS-V102, MS-V109 or MS-V110, also for the record of a case.
    """
    record = read_sealed(path)
    if record_kind(record, path) == "case":
        return {record["case"]: record}
    found = {}
    for name, wanted in record["records"].items():
        if not plain_name(name):
            raise strange(path, name)
        place = CaseFiles(path.parent, name, record["settings"]["flat"]).record
        one = read_sealed(place)
        require_form(one, "case", place)
        if sha256(place) != wanted or one["case"] != name:
            raise RecordError("MS-V110", ANOTHER, file=place, mend="rerun it by itself, if you know where it is from")
        found[name] = one
    return found


def named_bundle(name: str, given: str | PathLike[str] | None = None) -> Path:
    """The folder of the bundle that was `given`, or that a record names; raises a BundleError where there is none."""
    if given is not None:
        return find_bundle(os.fspath(given))
    return find_bundle(name if plain_name(name) else "")


def changed_bundle(root: Path, hashes: Mapping[str, str]) -> list[tuple[str, str]]:
    """(file, what is wrong) of each file of a bundle that is gone or has another SHA-256 now."""
    found = []
    for name, wanted in hashes.items():
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or set(name) & _NEVER:
            found.append((name, "a record names it, and no bundle has such a file"))
        elif not (root / name).is_file():
            found.append((name, "this file is missing"))
        elif (what := differs(root / name, wanted)) is not None:
            found.append((name, what))
    return found


def require_versions(records: Records, path: Path) -> None:
    """Refuse other versions than those that the results were made with, Python's last number apart."""
    now = _compared_versions(versions())
    for record in records.values():
        then = _compared_versions(record["versions"])
        names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
        if names:
            was = ", ".join(
                f"{name} {then.get(name, 'absent')} (here {now.get(name, 'absent')})" for name in names[:_SHOWN]
            )
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            pip = " ".join(f'"{name}=={then[name]}"' for name in names if name in then and name != "python")
            raise RecordError(
                "MS-V120",
                f"the results were made with other versions: {was}{more}",
                file=path,
                mend=f"make an environment with them and rerun there: pip install {pip}" if pip else "use that Python",
            )


def _compared_versions(found: Mapping[str, str]) -> dict[str, str]:
    return {name: ".".join(v.split(".")[:2]) if name == "python" else v for name, v in found.items()}


def bundle_root(records: Records, given: str | PathLike[str] | None, path: Path) -> Path:
    """The folder of the bundle that all the records name, every file as it was."""
    told = {str(sorted(record["bundle"]["sha256"].items())): record["bundle"] for record in records.values()}
    first, *others = told.values()
    if others:
        mend = "rerun the records of the cases one by one"
        raise RecordError("MS-V121", f"its cases are from {len(told)} different bundles", file=path, mend=mend)
    name = first["name"]
    mend = "say where the bundle is, as it was then, with -b BUNDLE"
    try:
        root = named_bundle(name, given)
    except BundleError:
        if given is not None:
            raise
        what = f"the bundle {name} {first['version']} is not found by its name"
        raise RecordError("MS-V121", what, file=path, mend=mend) from None
    if wrong := changed_bundle(root, first["sha256"]):
        files = ", ".join(f"{file} ({what})" for file, what in wrong[:_SHOWN])
        what = f"the bundle {root.name} is not the one that the results were made with: {files}"
        raise RecordError("MS-V121", what, file=path, mend=mend)
    return root


def strange(path: Path, name: str) -> RecordError:
    """The error of a record that names what medseg does not make."""
    what = f"a record names {name[:80]!r}, which medseg does not make"
    return RecordError("MS-V109", what, file=path, mend="do not trust this folder: its records are not medseg's")


def differs(path: Path, wanted: str) -> str | None:
    """Why a file is not as it was recorded, None when it is."""
    try:
        return None if sha256(path) == wanted else "this file was changed: its SHA-256 is another"
    except OSError as error:
        return f"this file cannot be read: {error.strerror or error}"
