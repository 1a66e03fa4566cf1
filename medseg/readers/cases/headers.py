"""Every case judged by the headers of its files, before any of them is read: a minute of work is not begun on a broken file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from medseg.errors import InputError, MedsegError
from medseg.readers.cases.channels import require_channels, require_one_channel
from medseg.readers.cases.grouping import wrong_channels
from medseg.readers.dicom import check_one
from medseg.readers.open import check

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case
    from medseg.readers.options import ReadOptions


def check_cases(cases: Iterable[Case], channels: Sequence[str] | None = ()) -> list[Case]:
    """The same cases in their order, `error` set to the refusal of each whose headers allow no reading.

    Args:
        cases: from `find_cases`.
        channels: the names of the channels that the bundle wants; () one of any name; None: it is not known how many,
            so files alone are judged.
    """
    return [replace(case, error=_refusal(case, channels)) for case in cases]


def _refusal(case: Case, channels: Sequence[str] | None) -> MedsegError | None:
    if case.error is not None and channels is not None:
        return case.error
    try:
        counts = [check_image(path, case.options) for path in case.images]
        if channels is not None:
            _require(counts, case.images, tuple(channels) or ("image",))
    except MedsegError as error:
        return error
    except Exception:  # noqa: BLE001  a share that answers now and then, or our own mistake: reading tells, of this case alone
        return None
    return None


def check_image(path: Path, options: ReadOptions) -> int:
    """How many channels a file or study holds, judged by headers alone.

    Raises:
        InputError, ChoiceError, GeometryError, MemoryLimitError: as `load_case` for what the headers tell.
    """
    if path.is_dir():
        try:
            check_one(path, options)
        except InputError as error:
            if error.code != "MS-D102":  # there is DICOM in it
                raise
        else:
            return 1
    return check(path, options)


def _require(counts: Sequence[int], images: tuple[Path, ...], names: tuple[str, ...]) -> None:
    if len(counts) == 1:
        require_channels(counts[0], names, images[0])
        return
    if len(counts) != len(names):
        raise wrong_channels(images, names)
    for count, path in zip(counts, images, strict=True):
        require_one_channel(count, path)
