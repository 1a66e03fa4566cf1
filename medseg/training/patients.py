"""Which cases are of one patient where neither a list nor a name says so: by the PatientID of DICOM.

It stands in the headers of a DICOM series, and in the JSON that dcm2niix writes beside a NIfTI file. It is compared in
memory only. Where it is to be known again later, `pseudonyms` gives an HMAC-SHA256 of it (RFC 2104) under a salt that
is drawn for the run: without the salt nobody can try out numbers until one fits.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from typing import TYPE_CHECKING

from pydicom.errors import InvalidDicomError

from medseg.errors import MedsegError
from medseg.readers.cases.names import case_stem, stem
from medseg.readers.dicom.deflated import read_tags
from medseg.readers.dicom.headers import find_files
from medseg.readers.sniff import sniff

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: How the name of a subject begins that is the hash of a PatientID.
HASHED = "patient-"
_PATIENT_ID = 0x00100020
#: What anonymisers write instead of a number, in small letters.
_PLACEHOLDERS = frozenset({
    "", "0", "na", "n/a", "none", "null", "id", "patientid", "anon", "anonym", "anonymous", "anonymized", "anonymised",
    "removed", "unknown", "deidentified",
})  # fmt: skip


def patients(images: Mapping[str, Sequence[Path]]) -> dict[str, str]:
    """The PatientID of cases, as far as their files tell it. Never write it anywhere.

    One that all cases carry tells nothing, as an anonymiser wrote it: then each case is by itself, and a warning says so.

    Args:
        images: case -> its image files, or DICOM folders.
    """
    read = {name: next(filter(None, map(_patient_id, paths)), None) for name, paths in images.items()}
    found = {name: patient for name, patient in read.items() if patient is not None}
    if len(found) > 1 and len(found) == len(images) and len(set(found.values())) == 1:
        logging.getLogger(__name__).warning(
            "all %d cases carry one and the same PatientID, as if an anonymiser had written it: it is not used; say whose "
            "they are in the column subject of a CSV list",
            len(found),
        )
        return {}
    return found


def same_patients(images: Mapping[str, Sequence[Path]]) -> dict[str, str]:
    """Case -> the first case, by name, of the same patient; only of cases whose files tell it.

    Args:
        images: case -> its image files, or DICOM folders.
    """
    first: dict[str, str] = {}
    return {name: first.setdefault(patient, name) for name, patient in sorted(patients(images).items())}


def pseudonyms(images: Mapping[str, Sequence[Path]], subjects: Mapping[str, str], salt: bytes) -> dict[str, str]:
    """Subjects, those known by a PatientID named by its hash.

    Args:
        images: case -> its image files, or DICOM folders, of the cases of which neither list nor name says a subject.
        subjects: case -> subject; of such a case the first of its patient, see `same_patients`.
        salt: a secret, at least 16 random bytes.

    Returns:
        case -> subject, `patient-` and 16 hexadecimal digits where a PatientID tells it.
    """
    hashes = {name: hmac.new(salt, patient.encode(), hashlib.sha256) for name, patient in patients(images).items()}
    named = {name: f"{HASHED}{digest.hexdigest()[:16]}" for name, digest in hashes.items()}
    return {name: named.get(subject, subject) for name, subject in subjects.items()}


def _patient_id(path: Path) -> str | None:
    try:
        found = _of_dicom(path) if path.is_dir() or sniff(path) == "dicom" else _of_sidecar(path)
    except (MedsegError, InvalidDicomError, OSError, ValueError):
        return None  # whoever reads the image tells what is wrong with it
    text = str(found if found is not None else "").strip()
    return None if text.casefold() in _PLACEHOLDERS else text


def _of_dicom(path: Path) -> str | None:
    for file in find_files(path):
        if sniff(file) == "dicom":
            return read_tags(file, [_PATIENT_ID]).get("PatientID")
    return None


def _of_sidecar(path: Path) -> str | int | None:
    """Of the JSON beside a file: of the same name, or of the case's without the number of the channel."""
    for name in dict.fromkeys((stem(path), case_stem(path))):
        file = path.with_name(f"{name}.json")
        if file.is_file():
            said = json.loads(file.read_text(encoding="utf-8-sig"))
            found = said.get("PatientID") if isinstance(said, dict) else None
            if isinstance(found, str | int):
                return found
    return None
