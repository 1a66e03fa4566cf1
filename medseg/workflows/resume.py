"""What a run finds in its output folder, and what it may touch there.

A case counts as finished when its record says so for the same bundle, options and input and the hash of every
output agrees: not because files exist. A segmentation that medseg did not write as it stands is never replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from medseg.errors import MedsegError, OutputError
from medseg.readers.nifti import read_nifti
from medseg.readers.options import ReadOptions
from medseg.workflows.identity.teller import plain
from medseg.workflows.layout import INSTANCE_MAP, RECORD, SEGMENTATION
from medseg.workflows.lock import LOCK, WORK
from medseg.workflows.record import changed_input, describe_bundle, read_record
from medseg.workflows.seal import is_sealed
from medseg.writers.atomic import sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medseg.bundle.load import Bundle
    from medseg.volume import Volume
    from medseg.workflows.identity.cases import Identity
    from medseg.workflows.identity.teller import Teller
    from medseg.workflows.layout import CaseFiles
    from medseg.workflows.settings import Settings

#: Options that let more cases through and change nothing for those that came through without them.
_LENIENT = ("allow_gaps", "max_voxels", "strict")


@dataclass(frozen=True)
class Found:
    """What stands in the output folder for one case.

    Args:
        state: 'new' nothing, 'finished' complete and untouched, 'redo' broken, incomplete or outdated, 'kept' a
            segmentation that somebody else made or changed.
        why: in words, for 'redo' and 'kept'.
        record: the case's record when there is one.
        edited: the segmentation as it stands, for 'kept'.
    """

    state: Literal["new", "finished", "redo", "kept"]
    why: str = ""
    record: Mapping[str, Any] | None = None
    edited: Volume | None = None


def run_settings(bundle: Bundle, settings: Settings, identity: Identity | None = None) -> dict[str, Any]:
    """What must not differ between a run and the one that resumes it."""
    return {
        "bundle": describe_bundle(bundle),
        "read": (plain(()) if identity is None else identity.whole()).read_options(settings.options),
        "flat": settings.flat,
        "produced": settings.produced,
        **({} if identity is None else {"identity": identity.fixed}),
    }


def open_folder(out: Path, settings: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Check that a run may write into `out`.

    Raises:
        OutputError: MS-O303 it holds files and neither `resume` nor `overwrite` was asked for; MS-O304 it holds
            files that are not from `medseg predict`; MS-O305 it was made with another bundle or other options.
    """
    here = [path.name for path in out.iterdir() if path.name not in (LOCK, WORK)]
    if not here or overwrite:
        return
    count = f"{len(here)} entr{'y' if len(here) == 1 else 'ies'}, such as {min(here)!r}"
    if not resume:
        raise OutputError(
            "MS-O303",
            f"this folder is not empty ({count})",
            file=out,
            mend="name a new folder with -o; or --resume to do only what is missing, --overwrite to do all again",
        )
    before = read_record(out / RECORD)
    if before is None or "settings" not in before:
        raise OutputError(
            "MS-O304",
            f"this folder is not from medseg: it has no {RECORD} of a run ({count})",
            file=out,
            mend="name a new folder with -o",
        )
    differing = _differences(before["settings"], settings)
    if differing:
        raise OutputError(
            "MS-O305",
            f"this folder was made with {'; '.join(differing)}: results of two kinds must not stand side by side",
            file=out,
            mend="resume with the same bundle and options, name a new folder with -o, or do all again with --overwrite",
        )


def find(files: CaseFiles, settings: Mapping[str, Any], roots: tuple[Path, ...], teller: Teller | None = None) -> Found:
    """What stands in the output folder for one case.

    Args:
        files: the case's places.
        settings: of this run, from `run_settings`.
        roots: the files or folders of the case.
        teller: how they are told.
    """
    record = read_record(files.record)
    hashes = {} if record is None else record.get("outputs", {})
    edited, broken = _not_ours(files.segmentation, hashes.get(SEGMENTATION))
    if edited is not None:
        why = "not written by medseg: kept" if record is None else "edited by hand: kept"
        return Found("kept", why, record, edited)
    if record is not None and INSTANCE_MAP in hashes:
        redrawn, _ = _not_ours(files.path(INSTANCE_MAP), hashes[INSTANCE_MAP])
        if redrawn is not None:
            return Found("kept", "its instances were edited by hand: kept, and not measured again", record)
    if record is None:
        return Found("redo", "the segmentation is broken") if broken else Found("new")
    if broken:
        return Found("redo", "the segmentation is broken", record)
    if missing := files.missing(hashes) or (not hashes and [SEGMENTATION]):
        return Found("redo", f"{missing[0]} is missing", record)
    if altered := files.altered(hashes):
        return Found("redo", f"{altered[0]} was changed", record)
    if not is_sealed(files.record):
        return Found("redo", "its record was changed", record)
    if record["parameters"].get("produced") != settings["produced"]:
        return Found("redo", "made with other outputs", record)
    if record["bundle"] != settings["bundle"] or _options_differ(record["parameters"]["read"], settings["read"]):
        return Found("redo", "made with another bundle or other options", record)
    if changed := changed_input(roots, record["input"]["files"], teller):
        return Found("redo", f"the input {changed} has changed", record)
    return Found("finished", "", record)


def _not_ours(path: Path, known: str | None) -> tuple[Volume | None, bool]:
    """(the label map, False) if it can be read and is not what medseg wrote; (None, True) if it cannot be read."""
    if not path.is_file() or sha256(path) == known:
        return None, False
    try:
        return read_nifti(path, ReadOptions()), False
    except MedsegError:
        return None, True


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    old, new = before.get("bundle", {}), now["bundle"]
    if old != new:
        names = [f"{b.get('name')} {b.get('version')}" for b in (old, new)]
        same = names[0] == names[1]
        found.append(f"other weights or configs of the bundle {names[0]}" if same else f"the bundle {names[0]}")
    if options := _options_differ(before.get("read", {}), now["read"]):
        found.append(", ".join(f"{key}={before.get('read', {}).get(key)}" for key in options))
    if before.get("flat") != now["flat"]:
        found.append("--flat" if before.get("flat") else "one folder a case (without --flat)")
    found += _other_names(before.get("identity"), now.get("identity"))
    old_outputs = before.get("produced", {})
    new_outputs = now.get("produced", {})
    keys = [*new_outputs, *(key for key in old_outputs if key not in new_outputs)]
    if others := [f"{key}={old_outputs.get(key)}" for key in keys if old_outputs.get(key) != new_outputs.get(key)]:
        found.append(f"other outputs ({', '.join(others)})")
    return found


def _other_names(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> list[str]:
    """Why the same cases would have other names; a run that had no pseudonyms yet has no key that could differ."""
    if before is None or now is None:
        return []
    if before["case_id"] != now["case_id"]:
        return [f"--case-id {before['case_id']}"]
    differ = None not in (before["key"], now["key"]) and before["key"] != now["key"]
    return [f"pseudonyms of another key ({before['key']}, now {now['key']})"] if differ else []


def _options_differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Options whose change could change a finished case; refusing NaN voxels and then filling them cannot."""
    keys = [key for key in now if key not in _LENIENT and before.get(key) != now[key]]
    return [key for key in keys if key != "nonfinite" or before.get(key) != "refuse"]
