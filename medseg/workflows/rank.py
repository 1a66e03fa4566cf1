"""`medseg rank`: unlabelled cases in the order in which labelling them teaches most.

Every case of the pool is looked at once (ranking/look.py); then the pool is put in order (ranking/order.py). The same
folder can be resumed, also with another criterion: what is known of a case stays. Nothing is segmented for keeps.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle.load import Bundle, load_bundle
from medseg.errors import OutputError, UsageError
from medseg.inferers.dropout import dropout_points
from medseg.readers.options import ReadOptions
from medseg.stop import go_on, uncut
from medseg.workflows.compute import computing, resolve_device
from medseg.workflows.headers import looked_at
from medseg.workflows.identity.guard import guarded
from medseg.workflows.inputs import read_ahead
from medseg.workflows.layout import RECORD
from medseg.workflows.lock import output_lock
from medseg.workflows.method import parse_method
from medseg.workflows.outcome import CaseReport, Failure, PredictReport
from medseg.workflows.ranking.look import How, Look, look_at, read_look
from medseg.workflows.ranking.measures import CRITERIA
from medseg.workflows.ranking.table import RankedCase, ranked, write_rank
from medseg.workflows.record import describe_bundle, read_record
from medseg.workflows.reporter import Reporter
from medseg.workflows.resume import open_folder
from medseg.workflows.sampling import check_method

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

    from medseg.readers.cases import Case
    from medseg.workflows.inputs import Read


@dataclass(frozen=True)
class RankReport:
    """What became of a run.

    Args:
        out: the output folder.
        ranked: the cases in their order, the first N where so many were asked for.
        cases: what became of each case of the pool.
    """

    out: Path
    ranked: tuple[RankedCase, ...]
    cases: tuple[CaseReport, ...]

    @property
    def exit_code(self) -> int:
        """0 all looked at, 3 none could be, 5 none for lack of memory, 6 some failed."""
        return PredictReport(self.out, self.cases).exit_code

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, for `--json`."""
        return {
            "out": str(self.out),
            "exit_code": self.exit_code,
            "ranked": [case.row() for case in self.ranked],
            "failed": [asdict(case.failure) for case in self.cases if case.failure],
        }


def rank(
    pool: str | PathLike[str],
    bundle: str | PathLike[str] | Bundle,
    out: str | PathLike[str],
    *,
    uncertainty: str | None = None,
    by: str = "entropy",
    first: int | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    options: ReadOptions | None = None,
    outside_domain: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    case_id: str = "auto",
    case_key: str | PathLike[str] | None = None,
    progress: Reporter | None = None,
) -> RankReport:
    """Rank the cases of `pool` into `out`: rank.csv, rank.html, failures.csv, record.json and a folder a case.

    Args:
        pool: unlabelled cases: a file, a folder, an MSD dataset.json, an nnU-Net imagesTr, or a list.
        bundle: a folder, a shipped name, or one that is loaded.
        out: where the results go.
        uncertainty: 'mc', 'mc:20', 'tta', 'ensemble' or 'ensemble+tta'; None: the first that the bundle can do of mc,
            ensemble and tta.
        by: 'entropy', 'mutual-information' or 'disagreement', see ranking/measures.py.
        first: list only so many; all are looked at.
        seed: of Monte Carlo dropout.
        device: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps'.
        threads: CPU threads, None for torch's own choice.
        options: the readers' options.
        outside_domain: rank scans unlike the training data too, and mark them.
        resume: look only at the cases that were not looked at; `by` and `first` may differ.
        overwrite: do all again.
        case_id: 'pseudonym' or 'name' of file and folder; 'auto': pseudonyms for cases from DICOM.
        case_key: the file with the key of the pseudonyms; None: medseg-key.json beside the pool, or above it.
        progress: hears what happens.

    Raises:
        UsageError: MS-U350 unknown `by`, MS-U351 `first` below 1, MS-U352 the bundle has nothing to sample, MS-U353 it
            finds instances; MS-U301, MS-U302, MS-U307, MS-U308, MS-U146 to MS-U149, MS-U400 to MS-U402,
            MS-O306 as for `predict`.
        OutputError: MS-O350 `out` holds segmentations; and as for `predict`.
        BundleError, InputError: as for `predict`.
        KeyboardInterrupt: passed on; the cases looked at so far are kept and ranked.
    """
    if by not in CRITERIA:
        raise UsageError("MS-U350", f"--by {by!r} is not known", mend=f"use one of {', '.join(CRITERIA)}")
    if first is not None and first < 1:
        raise UsageError("MS-U351", f"--first {first}", mend="give --first a number of 1 or more, or leave it out")
    if resume and overwrite:
        what = "--resume keeps what is there and --overwrite replaces it"
        raise UsageError("MS-U302", what, mend="give one of the two")
    source, target, hear = Path(pool), Path(out), progress or Reporter()
    options = options or ReadOptions()
    method = None if uncertainty is None else parse_method(uncertainty, seed=seed)
    where = resolve_device(device)
    cases, identity = looked_at(
        source,
        target,
        bundle,
        options,
        hear,
        mode=case_id,
        key_file=None if case_key is None else Path(case_key),
        write=True,
    )
    if not isinstance(bundle, Bundle):
        bundle = load_bundle(os.fspath(bundle), device=where)
    if bundle.finds_instances:
        raise UsageError(
            "MS-U353",
            f"{bundle.name} finds instances, and cases are ranked by the doubt of voxels",
            file=bundle.root,
            mend="type medseg predict --uncertainty mc: instances.json says which instances few samples find",
        )
    method = method or parse_method(default_method(bundle), seed=seed)
    check_method(method, bundle)
    fixed = {
        "bundle": describe_bundle(bundle),
        "read": identity.whole().read_options(options),
        "flat": False,
        "produced": {"ranking": method.words, "seed": seed if method.name == "mc" else None},
        "identity": identity.fixed,
    }
    with computing(threads=threads), hear, guarded(cache(lambda: identity.whole(cases))):
        count = f"{len(cases)} case{'s' * (len(cases) != 1)}"
        hear.plan(
            f"{count} | {bundle.name} {bundle.version} | {where} | uncertainty {method.words} | by {by}{identity.words}"
        )
        identity.remember(cases)
        with output_lock(target):
            open_folder(target, fixed, resume=resume, overwrite=overwrite)
            _spare_predictions(target)
            how = How(bundle, method, fixed, where, outside_domain, identity)
            report = _Run(cases, how, target, by, first, hear).all(resume=resume)
        identity.remember()
        return report


def default_method(bundle: Bundle) -> str:
    """The first that a bundle can do of mc, ensemble and tta.

    Raises:
        UsageError: MS-U352 none of them.
    """
    declared = bundle.uncertainty
    if declared.points or any(p > 0 for p in dropout_points(bundle.network).values()):
        return "mc"
    if declared.weights:
        return "ensemble"
    if declared.mirrors:
        return "tta"
    raise UsageError(
        "MS-U352",
        f"{bundle.name} has no dropout, one weight file and no symmetry, so nothing says where it is unsure",
        file=bundle.root,
        mend='name further weights or a symmetry in its inference.json, such as "uncertainty": {"mirrors": ["LR"]}',
    )


def _spare_predictions(out: Path) -> None:
    """Refuse a folder of `medseg predict`, also with --overwrite: segmentations would lose their records.

    Raises:
        OutputError: MS-O350 saying so.
    """
    before = read_record(out / RECORD)
    if before is not None and "ranking" not in before.get("settings", {}).get("produced", {}):
        what = "this folder holds segmentations of `medseg predict`, whose records would be replaced"
        raise OutputError("MS-O350", what, file=out, mend="name a new folder with -o")


class _Run:
    """One run over the pool: what its cases share, and what is known of each so far."""

    def __init__(self, cases: Sequence[Case], how: How, out: Path, by: str, first: int | None, hear: Reporter) -> None:
        self.cases, self.how, self.out, self.by, self.first, self.hear = cases, how, out, by, first, hear
        self.looks: list[Look] = []
        self.reports: list[CaseReport] = []

    def all(self, *, resume: bool) -> RankReport:
        """Look at every case, then rank; also what is there when the user interrupts."""
        state: str | None = None
        try:
            with uncut():
                self._write([], "running")  # a run that is killed can be resumed
                state = "interrupted"
            known = {case.name: self._known(case) for case in self.cases} if resume else {}
            waiting = [case for case in self.cases if known.get(case.name) is None]
            volumes = read_ahead(waiting, self.how.bundle.channels)
            for number, case in enumerate(self.cases, 1):
                go_on()
                self.hear.case(case.name, number, len(self.cases))
                look = known.get(case.name)
                report = self._look(case, volumes) if look is None else self._take_over(case, look)
                self.reports.append(report)
                self.hear.done(report)
            go_on()
            state = "done"
        finally:
            found = ranked(self.looks, self.by, self.first)
            if state is not None:
                with uncut():
                    self._write(found, state)
        return RankReport(self.out, tuple(found), tuple(self.reports))

    def _write(self, found: Sequence[RankedCase], state: str) -> None:
        write_rank(self.out, found, self.looks, self.reports, self.how, state, by=self.by, pool=len(self.cases))

    def _fixed(self, case: Case) -> How:
        return replace(self.how, fixed={**self.how.fixed, "read": self.how.teller(case).read_options(case.options)})

    def _known(self, case: Case) -> Look | None:
        return read_look(case, self.out / case.name, self._fixed(case))

    def _take_over(self, case: Case, look: Look) -> CaseReport:
        self.looks.append(look)
        return CaseReport(case.name, "finished before", self.out / case.name, mark=look.mark)

    def _look(self, case: Case, volumes: Iterator[Read]) -> CaseReport:
        start = time.perf_counter()
        try:
            read = next(volumes)
            if isinstance(read.volume, Exception):
                raise read.volume
            self.hear.stage("looking")
            look = look_at(case, read.volume, self._fixed(case), self.out / case.name, progress=self._windows)
        except Exception as error:  # noqa: BLE001  whatever one case brings, the others are done
            go_on()  # it may come of a stop that a library made an error of
            failure = Failure.of(case.name, error, case.images[0] if case.images else "", self.how.teller(case))
            return CaseReport(case.name, "failed", failure=failure, seconds=time.perf_counter() - start)
        self.looks.append(look)
        return CaseReport(
            case.name,
            "done",
            self.out / case.name,
            look.structures,
            notes=look.notes,
            outside_domain=look.outside,
            seconds=time.perf_counter() - start,
            mark=look.mark,
        )

    def _windows(self, done: int, total: int) -> None:
        go_on()
        self.hear.windows(done, total)
