"""The key of pseudonyms: a secret salt and a table of who is behind which pseudonym, in one file beside the scans.

A pseudonym is an HMAC-SHA256 (RFC 2104) of a case's name under the salt: the same case has the same one in every run with
the key, and without it nobody can try out names until one fits. The file never lies in a folder of results.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from medseg.errors import OutputError, UsageError
from medseg.readers.cases.names import collision_key
from medseg.writers.atomic import json_text, write_new, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "medseg-key.json"
SCHEMA = "medseg-key/1"
#: How pseudonyms begin.
CASE, PATH, UID, SUBJECT = "case-", "file-", "uid-", "subject-"
_SALT_BYTES = 32
_DIGITS = 12
_NOTICE = "Whoever has this file can tell whose results are whose. Keep it where the scans are; never pass it on with results."


@dataclass(frozen=True)
class Key:
    """A salt.

    Args:
        salt: 32 random bytes.
        file: where it is kept; None: in memory only, its pseudonyms are of one run.
    """

    salt: bytes
    file: Path | None = None

    @property
    def mark(self) -> str:
        """What tells keys apart in records; nothing of the salt follows from it."""
        return self._digest("key", "")[:8]

    def case(self, name: str) -> str:
        """The pseudonym of a case; names that are one file on some system have one."""
        return CASE + self._digest("case", collision_key(name))

    def subject(self, name: str) -> str:
        """The pseudonym of whose scans these are."""
        return SUBJECT + self._digest("subject", name.strip())

    def path(self, relative: str) -> str:
        """The pseudonym of a file's place below its case; `/` between folders."""
        return PATH + self._digest("path", relative)

    def uid(self, uid: str) -> str:
        """The pseudonym of a DICOM UID in a text; in DICOM objects it is another UID, see `writers.dicom`."""
        return UID + self._digest("uid", uid)

    def _digest(self, kind: str, text: str) -> str:
        return hmac.new(self.salt, f"{kind}\0{text}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[
            :_DIGITS
        ]

    def remember(self, cases: Mapping[str, Any], files: Mapping[str, str]) -> None:
        """Add to the table of who is behind a pseudonym; a file that may not be written stays as it is.

        Args:
            cases: pseudonym -> what is to be known of the case.
            files: pseudonym -> path.
        """
        if self.file is None:
            return
        content = _content(self.file)
        new = {"cases": {**content.get("cases", {}), **cases}, "files": {**content.get("files", {}), **files}}
        if new == {name: content.get(name, {}) for name in new}:
            return
        try:
            write_text(self.file, json_text({**content, **new}), private=True)
        except OutputError:  # the salt alone makes the pseudonyms
            return


def is_pseudonym(name: str) -> bool:
    """Whether a case is called by a pseudonym."""
    tail = name.removeprefix(CASE)
    return tail != name and len(tail) == _DIGITS and all(c in "0123456789abcdef" for c in tail)


def find_key(place: Path) -> Key | None:
    """The key in a folder or beside a file, or in the nearest folder above.

    One that belongs neither to this user, nor to root, nor to the owner of its folder is passed over: in a folder that
    everybody may write to, such as /tmp, somebody else could have put it there.

    Raises:
        UsageError: MS-U401 a key is there that cannot be used.
    """
    place = place.resolve()
    for folder in (place, *place.parents):
        file = folder / FILE
        if file.is_file() and _is_ours(file):
            return read_key(file)
    return None


def open_key(place: Path, out: Path, file: Path | None = None, *, write: bool = True) -> Key:
    """The key of the scans at `place`, made beside them where there is none yet.

    Args:
        place: what the user named.
        out: the folder of results, which must not hold the key.
        file: another place for it.
        write: make it where there is none; else such a run has a key of its own, in memory.

    Raises:
        UsageError: MS-U401 it cannot be used, MS-U402 it would lie in `out`.
        OutputError: MS-O330 it cannot be made.
    """
    found = find_key(place) if file is None else None
    if file is None:
        file = (place.resolve().parent / FILE) if found is None or found.file is None else found.file
    file = file.absolute()
    if out.resolve() in file.resolve().parents:
        raise UsageError(
            "MS-U402",
            "the key of the pseudonyms would lie in the folder of results, and go wherever they go",
            mend="name another folder with -o, or another place for the key with --case-key FILE",
        )
    if found is not None:
        return found
    if file.exists() or not write:
        return read_key(file) if file.exists() else Key(secrets.token_bytes(_SALT_BYTES))
    content = {"schema": SCHEMA, "notice": _NOTICE, "salt": secrets.token_hex(_SALT_BYTES), "cases": {}, "files": {}}
    try:
        write_new(file, json_text(content), private=True)
    except OutputError as error:
        raise OutputError(
            "MS-O330",
            f"the key of the pseudonyms cannot be made beside the scans: {error.what}",
            mend="name a place of your own for it, such as --case-key ~/medseg-key.json; or --case-id name, where the "
            "names of folders and files tell of nobody",
        ) from None
    return read_key(file)  # another run may have been first


def read_key(file: Path) -> Key:
    """The key in a file.

    Raises:
        UsageError: MS-U401 it cannot be used.
    """
    told = _content(file).get("salt")
    try:
        salt = bytes.fromhex(str(told))
    except ValueError:
        salt = b""
    if len(salt) < _SALT_BYTES:
        _refuse("it holds no salt of 32 bytes")
    return Key(salt, file)


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        _refuse(error.strerror or "it cannot be read")
    except ValueError:
        _refuse("it is no JSON")
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        _refuse(f"it is no {SCHEMA}")
    return content


def _refuse(why: str) -> NoReturn:
    raise UsageError(
        "MS-U401",
        f"the key of the pseudonyms, {FILE}, cannot be used: {why}",
        mend="put back the file that earlier runs used (another one gives other pseudonyms), or name one with --case-key",
    ) from None


def _is_ours(file: Path) -> bool:
    if not hasattr(os, "getuid"):
        return True
    return file.stat().st_uid in (os.getuid(), 0, file.parent.stat().st_uid)
