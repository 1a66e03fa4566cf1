"""What is wrong with a dataset, one row each, and the refusal that carries all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.errors import InputError, MedsegError
from medseg.training.plan.choice import many

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

COLUMNS = ("", "case", "code", "what", "file", "mend")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or worth a look.

    Args:
        code: as in docs/errors: MS-T14x of the dataset as a whole, or the code with which a reader refused a file.
        what: what was found, in one sentence.
        file: which file it is about.
        mend: what to do about it.
        case: the case, '' where it is about none.
        note: it does not stand in the way of a plan.
    """

    code: str
    what: str
    file: str
    mend: str
    case: str = ""
    note: bool = False

    def row(self) -> tuple[str, ...]:
        """Its cells, as `COLUMNS` name them."""
        return ("warn" if self.note else "fail", self.case, self.code, self.what, self.file, self.mend)


def problem_of(error: MedsegError, case: str, file: Path | None) -> Problem:
    """A reader's refusal as a row; `file` where the refusal names none."""
    return Problem(error.code, error.what, error.file or str(file or ""), error.mend, case)


class DatasetError(InputError):
    """A dataset from which nothing is planned before it is mended.

    Args:
        problems: everything that was found, faults first.
        file: the dataset.
    """

    def __init__(self, problems: Sequence[Problem], file: Path) -> None:
        faults = [problem for problem in problems if not problem.note]
        about = len({problem.file for problem in faults})
        super().__init__(
            "MS-T140",
            f"the dataset has {many(len(faults), 'fault')} in {many(about, 'file')}; nothing was written",
            file=file,
            mend="mend or remove these files, then type the same command again",
        )
        self.problems = tuple(faults_first(problems))


def faults_first(problems: Iterable[Problem]) -> list[Problem]:
    """Faults before notes, each in the order of their files."""
    return sorted(problems, key=lambda problem: (problem.note, problem.file, problem.code))
