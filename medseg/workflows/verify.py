"""`medseg verify OUT`: whether every output, record and table, the weights and the input are as they were recorded.

Nothing is loaded or run: files are hashed and compared. A record is read as a stranger's: what it names must be files
that medseg makes, in places where medseg puts them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import BundleError, RecordError
from medseg.workflows.contents import Contents
from medseg.workflows.form import require_form
from medseg.workflows.layout import FILES, RECORD, CaseFiles
from medseg.workflows.lock import LOCK
from medseg.workflows.recorded import changed_bundle, differs, named_bundle, plain_name, record_kind, strange
from medseg.workflows.seal import read_sealed
from medseg.workflows.summary import TABLES
from medseg.writers.atomic import sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

_AGAIN = "medseg predict with --resume makes it again"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was recorded.

    Args:
        code: MS-V102 to MS-V110, see docs/errors/V-records.md.
        file: which file.
        what: what was found.
        mend: what to do.
    """

    code: str
    file: str
    what: str
    mend: str


@dataclass(frozen=True)
class VerifyReport:
    """What became of a verification.

    Args:
        place: the folder that was verified.
        files: how many files are as they were recorded.
        findings: those that are not.
        notes: what was not looked at, and how to have it looked at.
    """

    place: Path
    files: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 when everything is as it was recorded, else 8."""
        return RecordError.exit_code if self.findings else 0

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, for `--json`."""
        found = [asdict(finding) for finding in self.findings]
        return {
            "out": str(self.place),
            "exit_code": self.exit_code,
            "files_as_recorded": self.files,
            "findings": found,
            "notes": list(self.notes),
        }


def verify(
    out: str | PathLike[str],
    *,
    bundle: str | PathLike[str] | None = None,
    source: str | PathLike[str] | None = None,
) -> VerifyReport:
    """Compute every hash again that the records of a folder tell.

    Args:
        out: what `medseg predict` was given with -o, the folder of one case, or a record.json.
        bundle: the bundle's folder or name; None: the name in the record, where a bundle of this name is found.
        source: the input, or where it lies now; None: it is not looked at.

    Raises:
        RecordError: MS-V101, MS-V102 there is no record, or it was changed itself.
        BundleError: MS-B101, MS-B102 `bundle` is none.
    """
    path = Path(out)
    path = path if path.is_file() else path / RECORD
    record = read_sealed(path)
    check = _Check(path.parent)
    if record_kind(record, path) == "run":
        check.run(record)
    else:
        check.known.add(path)
        check.good += 1
        check.outputs(record, path, {file: path.parent / file for file in FILES})
    check.bundles(bundle)
    check.inputs(None if source is None else Path(source))
    check.extra()
    return VerifyReport(path.parent, check.good, tuple(check.findings), tuple(check.notes))


@dataclass
class _Check:
    """What was looked at so far.

    Args:
        out: the folder.
        known: files that a record tells of.
        records: the records of cases, as far as they are whole.
    """

    out: Path
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    known: set[Path] = field(default_factory=set)
    records: list[Mapping[str, Any]] = field(default_factory=list)
    listed: str | None = None
    good: int = 0

    def found(self, code: str, file: Path | str, what: str, mend: str) -> None:
        name = file.relative_to(self.out).as_posix() if isinstance(file, Path) else file
        self.findings.append(Finding(code, name, what, mend))

    def run(self, record: Mapping[str, Any]) -> None:
        """The record of a run, its tables, and the records and outputs of its cases."""
        self.known.add(self.out / RECORD)
        self.good += 1
        self.listed = record["input_list"]
        if record["state"] == "running":
            what = "the run has not ended: it still runs, or was killed, and nothing tells of the records of its cases"
            self.found("MS-V106", self.out / RECORD, what, "wait for its end, or end it with medseg predict --resume")
        elif record["state"] == "interrupted":
            self.notes.append("the run was interrupted: cases after that are not there (medseg predict --resume)")
        for name, wanted in record["files"].items():
            if name in TABLES:
                self.same(self.out / name, wanted)
            else:
                self.strange(self.out / RECORD, name)
        flat = record["settings"]["flat"]
        for name in record["cases"]:
            if not plain_name(name):
                self.strange(self.out / RECORD, name)
            elif name in record["records"]:
                self.case(CaseFiles(self.out, name, flat), record["records"][name])

    def case(self, files: CaseFiles, wanted: str) -> None:
        """The record of a case, and its outputs."""
        if not files.record.is_file():
            self.known.add(files.record)
            self.found("MS-V104", files.record, "the record of this case is missing", _AGAIN)
            return
        self.known.add(files.record)
        try:
            record = read_sealed(files.record)
            require_form(record, "case", files.record)
            same = sha256(files.record) == wanted
        except RecordError as error:
            self.found(error.code, files.record, error.what, error.mend)
            self.known.update(files.path(file) for file in FILES)  # nothing tells of them
            return
        if same:
            self.good += 1
        else:
            what = "this is another record than the one that the run's record tells of"
            self.found(
                "MS-V110", files.record, what, "take it from a copy, or do the case again in a folder of its own"
            )
        self.outputs(record, files.record, {file: files.path(file) for file in FILES})

    def outputs(self, record: Mapping[str, Any], place: Path, places: Mapping[str, Path]) -> None:
        """The outputs that the record of a case tells of."""
        self.records.append(record)
        for name, wanted in record["outputs"].items():
            if name in places:
                self.same(places[name], wanted)
            else:
                self.strange(place, name)

    def same(self, path: Path, wanted: str) -> None:
        """Whether a file is there and has this SHA-256."""
        self.known.add(path)
        if not path.is_file():
            self.found("MS-V104", path, "this file is missing", _AGAIN)
        elif (what := differs(path, wanted)) is not None:
            mend = (
                "take it from a copy; medseg predict with --resume keeps an edited segmentation and makes others again"
            )
            self.found("MS-V103", path, what, mend)
        else:
            self.good += 1

    def strange(self, path: Path, name: str) -> None:
        """A record names what medseg does not make."""
        error = strange(path, name)
        self.found(error.code, path, error.what, error.mend)

    def bundles(self, given: str | PathLike[str] | None) -> None:
        """Configs and weights of the bundles that the records tell of."""
        told: dict[str, Mapping[str, Any]] = {}
        for record in self.records:
            told.setdefault(str(sorted(record["bundle"]["sha256"].items())), record["bundle"])
        for one in told.values():
            try:
                root = named_bundle(one["name"], given)
            except BundleError:
                if given is not None:
                    raise
                self.notes.append(f"the weights of {one['name']} were not looked at: say where it is with -b BUNDLE")
                continue
            wrong = changed_bundle(root, one["sha256"])
            self.good += len(one["sha256"]) - len(wrong)
            for name, what in wrong:
                mend = "take the bundle that the results were made with, and say where it is with -b"
                self.found("MS-V107", f"{one['name']}/{name}", what, mend)

    def inputs(self, source: Path | None) -> None:
        """The scans that the results were made from."""
        rows = [(record, row) for record in self.records for row in record["input"]["files"]]
        if source is None:
            if rows:
                self.notes.append("the input was not looked at: say where it is with --input PATH")
            return
        there = Contents(source, (row["bytes"] for _, row in rows))
        for record, row in rows:
            if there.find(row):
                self.good += 1
                continue
            what = f"no file of {source} has what this file of case {record['case']} held"
            mend = "name the input that the results were made from; if it was changed since, segment it again"
            self.found("MS-V108", str(row["name"]), what, mend)

    def extra(self) -> None:
        """Files that no record tells of; scans and the list of cases may lie in the folder too."""
        rows = [row for record in self.records for row in record["input"]["files"]]
        own = {row["sha256"] for row in rows} | {self.listed}
        sizes = {row["bytes"] for row in rows}
        for path in sorted(self.out.rglob("*")):
            if (path.is_dir() and not path.is_symlink()) or path in self.known or path == self.out / LOCK:
                continue
            small = self.listed is not None and path.parent == self.out
            if path.is_file() and (small or path.stat().st_size in sizes) and sha256(path) in own:
                continue
            what = "no record tells of this file"
            self.found("MS-V105", path, what, "if you put it there, keep it elsewhere; else do not trust it")
