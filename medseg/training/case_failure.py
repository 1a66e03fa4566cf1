"""What went wrong with a case in a process that loads: carried whole to the main process, with its files."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import MedsegError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class CaseFailure:
    """An error that can travel between processes.

    Args:
        files: of the case, as its data list names them.
        what: type and message of the error at the root.
        whole: the traceback, as text.
        refusal: medseg's own error, where it was one.
    """

    files: tuple[str, ...]
    what: str
    whole: str
    refusal: MedsegError | None = None

    def error(self) -> MedsegError:
        """What to raise; the traceback is logged.

        Returns:
            The refusal itself, or MS-T160 naming the case.
        """
        if self.refusal is not None:
            return self.refusal
        logging.getLogger(__name__).error("while loading %s:\n%s", ", ".join(self.files) or "a case", self.whole)
        return MedsegError(
            "MS-T160", f"this case could not be prepared for training: {self.what}",
            file=self.files[0] if self.files else None,
            mend="look at the traceback above; medseg plan DATA -o NEW names what is wrong with a dataset",
        )  # fmt: skip


def failure_of(error: Exception, dataset: Any, index: int) -> CaseFailure:
    """The failure of one case of a dataset."""
    root: BaseException = error
    while root.__cause__ is not None and not isinstance(root, MedsegError):
        root = root.__cause__
    whole = "".join(traceback.format_exception(error))
    refusal = root if isinstance(root, MedsegError) else None
    return CaseFailure(_files(dataset, index), f"{type(root).__name__}: {root}", whole, refusal)


def _files(dataset: Any, index: int) -> tuple[str, ...]:
    try:
        item: Mapping[str, Any] = dataset.data[index]
        named = [item[key] for key in ("image", "label") if key in item]
    except (AttributeError, LookupError, TypeError):
        return ()
    flat = [path for one in named for path in (one if isinstance(one, list | tuple) else [one])]
    return tuple(str(path) for path in flat)
