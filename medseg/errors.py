"""Every error that medseg raises on purpose, as one tree.

    MedsegError                 exit 1   (never raised itself)
    ├── UsageError              exit 2   an option or argument is wrong
    ├── InputError              exit 3   a file or folder cannot be used as it is
    │   ├── GeometryError                its place in space is missing, broken or ambiguous
    │   ├── ChoiceError                  several volumes would fit; `candidates` lists them
    │   └── DomainError                  it lies outside what the bundle was trained on
    ├── BundleError             exit 4   a bundle is refused, incomplete or without weights
    ├── MissingExtraError       exit 2   an optional dependency is not installed
    ├── MemoryLimitError        exit 5   it does not fit, also after the fallbacks
    ├── OutputError             exit 7   the output folder is in use, full or not ours
    └── RecordError             exit 8   a record, or what it tells of, is not as it was when it was written

An error says what was found, in which file, and what to type next. Codes (`MS-N101`) are stable and
explained in docs/errors: F files of any kind, N NIfTI, R NRRD and MetaImage, D DICOM, C case lists, G geometry,
X domain, B bundles, O output, M memory, U usage, T training, E evaluation, J joint training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike


class MedsegError(Exception):
    """An error with a stable code, the file it is about, and the mend.

    Args:
        code: stable identifier such as `MS-N101`, explained under docs/errors/.
        what: what was found, in one sentence, without the file name.
        file: the file or folder it is about, when there is one.
        mend: what the user can do or type next.
    """

    exit_code = 1

    def __init__(self, code: str, what: str, *, file: str | PathLike[str] | None = None, mend: str) -> None:
        self.code = code
        self.what = what
        self.file = None if file is None else str(file)
        self.mend = mend
        super().__init__(code, what, self.file, mend)

    def __reduce__(self):  # keyword arguments would be lost when a worker process sends the error back
        return _rebuild, (type(self), self.code, self.what, self.file, self.mend, self.__dict__.copy())

    def __str__(self) -> str:
        where = "" if self.file is None else f"{printable(self.file)}: "
        return f"{self.code} {where}{self.what}\n  -> {self.mend}"


class UsageError(MedsegError):
    """An option or argument is wrong."""

    exit_code = 2


class MissingExtraError(MedsegError):
    """An optional dependency is not installed; the mend names the extra."""

    exit_code = 2


class InputError(MedsegError):
    """A file or folder cannot be used as it is."""

    exit_code = 3


class GeometryError(InputError):
    """The place of an image in space is missing, broken or ambiguous."""


class ChoiceError(InputError):
    """Several volumes would fit where one is wanted.

    Args:
        candidates: one line a candidate, each with the option that picks it.
    """

    def __init__(
        self,
        code: str,
        what: str,
        *,
        file: str | PathLike[str] | None = None,
        mend: str,
        candidates: Sequence[str] = (),
    ) -> None:
        super().__init__(code, what, file=file, mend=mend)
        self.candidates = tuple(candidates)

    def __str__(self) -> str:
        head, mend = super().__str__().split("\n", 1)
        return "\n".join([head, *(f"     {line}" for line in self.candidates), mend])


class DomainError(InputError):
    """A scan lies outside what the bundle was trained on."""


class BundleError(MedsegError):
    """A bundle is refused, incomplete or has no weights."""

    exit_code = 4


class MemoryLimitError(MedsegError):
    """The work does not fit into memory, also after every fallback."""

    exit_code = 5


class OutputError(MedsegError):
    """The output folder is in use, full, or holds what must not be replaced."""

    exit_code = 7


class RecordError(MedsegError):
    """A record is missing or was changed, or the files, bundle or versions that it names are others now."""

    exit_code = 8


def printable(text: str) -> str:
    """`text` with control characters escaped, so that a file name cannot move the cursor or forge a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _rebuild(kind, code, what, file, mend, state):
    error = kind(code, what, file=file, mend=mend)
    error.__dict__.update(state)
    return error
