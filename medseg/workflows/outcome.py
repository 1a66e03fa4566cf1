"""What became of each case of a run, and the exit code that says it to a script."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medseg.errors import MedsegError, MemoryLimitError
from medseg.workflows.identity.guard import told

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.workflows.identity.teller import Teller
    from medseg.workflows.measure import Measurement
    from medseg.workflows.plan import CasePlan


@dataclass(frozen=True)
class Failure:
    """Why a case has no result; one row of failures.csv.

    Args:
        case: its name.
        code: stable identifier of the error.
        file: the file or folder it is about.
        what: what was found.
        mend: what to do or type next.
        memory: whether it was for lack of memory.
    """

    case: str
    code: str
    file: str
    what: str
    mend: str
    memory: bool = False

    @classmethod
    def of(cls, case: str, error: Exception, file: Path | str = "", teller: Teller | None = None) -> Failure:
        """The row of an error; `file` stands in where the error names none, and `teller` tells paths and words.

        An error that medseg did not foresee is told by its type and place alone: its text may quote a DICOM tag.
        """
        if teller is not None:
            file = teller.path(file)
            told(error, teller)
        if isinstance(error, MedsegError):
            named = error.file if error.file is not None else str(file)
            what = " | ".join([error.what, *getattr(error, "candidates", ())])
            return cls(case, error.code, named, what, error.mend, isinstance(error, MemoryLimitError))
        if isinstance(error, OSError) and error.strerror:
            return cls(
                case,
                "MS-O310",
                str(error.filename or file),
                f"the operating system refused: {error.strerror}",
                "free space on the disk or mend the permissions, then run again with --resume",
            )
        if isinstance(error, MemoryError):
            what = "there was not enough memory for this case"
            return cls(
                case, "MS-M310", str(file), what, "close other programs, or run where there is more memory", True
            )
        return cls(
            case,
            "MS-O399",
            str(file),
            f"an error in medseg itself: {type(error).__name__} at {_place(error)}",
            "run this case alone with --debug and report what it says",
        )


@dataclass(frozen=True)
class CaseReport:
    """What became of one case.

    Args:
        name: the case.
        status: 'done', 'failed', 'finished before' (a resumed run found it complete) or 'kept' (somebody edited it).
        folder: where its files are, None when it failed.
        measurements: of its structures.
        failure: why it failed.
        notes: what the user should look at: warnings, fallbacks, what was kept or removed.
        outside_domain: what lies outside the training data, in words; () when nothing does.
        seconds: time it took.
        mark: one of `measure.MARKS`.
    """

    name: str
    status: str
    folder: Path | None = None
    measurements: tuple[Measurement, ...] = ()
    failure: Failure | None = None
    notes: tuple[str, ...] = ()
    outside_domain: tuple[str, ...] = ()
    seconds: float = 0.0
    mark: str = "no"


@dataclass(frozen=True)
class PredictReport:
    """What became of a run.

    Args:
        out: the output folder.
        cases: one report a case, in the order of the input.
        plan: what would be done, for a dry run.
    """

    out: Path
    cases: tuple[CaseReport, ...] = ()
    plan: tuple[CasePlan, ...] = field(default=())

    def named(self, *statuses: str) -> tuple[CaseReport, ...]:
        """The cases of these statuses."""
        return tuple(case for case in self.cases if case.status in statuses)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Why cases failed, or would fail."""
        return tuple(case.failure for case in (*self.cases, *self.plan) if case.failure)

    @property
    def exit_code(self) -> int:
        """0 all done, 3 none could be done, 5 none for lack of memory, 6 some failed; of a dry run, what it foresees."""
        if not self.failures:
            return 0
        if len(self.failures) < len(self.cases) + len(self.plan):
            return 6
        return MemoryLimitError.exit_code if all(failure.memory for failure in self.failures) else 3

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, for `--json`."""
        if self.plan:
            return {
                "out": str(self.out),
                "dry_run": True,
                "exit_code": self.exit_code,
                "cases": [case.to_json() for case in self.plan],
            }
        return {
            "out": str(self.out),
            "exit_code": self.exit_code,
            "cases": [_case_to_json(case) for case in self.cases],
        }


def _case_to_json(case: CaseReport) -> dict[str, Any]:
    row: dict[str, Any] = {"name": case.name, "status": case.status, "seconds": round(case.seconds, 3)}
    if case.failure:
        failure = case.failure
        return row | {"code": failure.code, "file": failure.file, "what": failure.what, "mend": failure.mend}
    return row | {
        "folder": str(case.folder),
        "outside_domain": list(case.outside_domain),
        "notes": list(case.notes),
        "structures": [m.row(outside_domain=case.mark) for m in case.measurements],
    }


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace is None:
        return "an unknown place"
    return f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
