"""One run over its cases: each is done, left as it is, or fails on its own.

Ctrl-C and SIGTERM stop it between two moments: a case is published whole or not at all, and the folder's record says
that the run was interrupted, with every case that it holds.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medseg.stop import go_on, uncut
from medseg.workflows.case_run import CaseResult, run_case
from medseg.workflows.index import forget_index
from medseg.workflows.inputs import read_ahead
from medseg.workflows.layout import CaseFiles
from medseg.workflows.measure import Measurement, measure
from medseg.workflows.outcome import CaseReport, Failure, PredictReport
from medseg.workflows.resume import Found, find, open_folder, run_settings
from medseg.workflows.stage import stage
from medseg.workflows.summary import Earlier, read_earlier, write_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from medseg.bundle.load import Bundle
    from medseg.readers.cases import Case
    from medseg.workflows.identity.cases import Identity
    from medseg.workflows.inputs import Read
    from medseg.workflows.reporter import Reporter
    from medseg.workflows.settings import Settings

_NEW = Found("new")
_STAYS = ("finished", "kept")


class Run:
    """One run over its cases: what they share, and what became of them so far.

    Attributes:
        listed: SHA-256 of the list of cases (CSV, JSON) that was given, for the record.
        identity: how cases are called and their files told.
        over: place in the list -> what became of that case; those that are over.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        bundle: Bundle,
        settings: Settings,
        out: Path,
        work: Path,
        hear: Reporter,
        identity: Identity,
    ) -> None:
        self.cases, self.bundle, self.settings = cases, bundle, settings
        self.out, self.work, self.hear, self.identity = out, work, hear, identity
        self.fixed = run_settings(bundle, settings, identity)
        self.over: dict[int, CaseReport] = {}
        self.earlier = Earlier()
        self.listed: str | None = None

    @property
    def reports(self) -> list[CaseReport]:
        """What became of the cases that are over, in the order of the list."""
        return [self.over[place] for place in sorted(self.over)]

    def all(self, *, resume: bool) -> PredictReport:
        """Do every case; what is done when the user interrupts is listed too."""
        with self.recorded(resume=resume):
            self.each(range(len(self.cases)), resume=resume)
        return PredictReport(self.out, tuple(self.reports))

    @contextmanager
    def recorded(self, *, resume: bool) -> Iterator[None]:
        """Write in the folder that a run has begun, and at the end of the block how it ended."""
        state: str | None = None
        try:
            with uncut():
                self.begin(resume=resume)
                state = "interrupted"
            yield
            state = "done"
        finally:
            if state is not None:
                with uncut():
                    self.write(state)

    def begin(self, *, resume: bool) -> None:
        """Write in the folder that a run has begun; read what it says of cases that this run has not come to."""
        if resume:
            self.earlier = read_earlier(self.out, instances=self.bundle.finds_instances)
        self.write("running")

    def each(self, places: Sequence[int], *, resume: bool) -> None:
        """Do the cases at these places of the list, one after the other; `over` tells what became of them."""
        mine = [self.cases[place] for place in places]
        found = {case.name: self._find(case) for case in mine} if resume else {}
        waiting = [case for case in mine if found.get(case.name, _NEW).state not in _STAYS]
        volumes = read_ahead(waiting, self.bundle.channels)
        for place, case in zip(places, mine, strict=True):
            go_on()
            self.hear.case(case.name, place + 1, len(self.cases))
            there = found.get(case.name, _NEW)
            if there.state in _STAYS:
                self.over[place] = self._leave(case, there)
            else:
                self._do(place, case, there, volumes)
            self.hear.done(self.over[place])

    def _files(self, case: Case) -> CaseFiles:
        return CaseFiles(self.out, case.name, self.settings.flat)

    def _find(self, case: Case) -> Found:
        return _found(case, self.out, self.settings, self.fixed, self.identity)

    def _do(self, place: int, case: Case, there: Found, volumes: Iterator[Read]) -> None:
        start = time.perf_counter()
        teller = self.identity.of(case)
        try:
            read = next(volumes)
            if isinstance(read.volume, Exception):
                raise read.volume
            self.hear.stage("segmenting")
            result = run_case(
                case.name,
                read.volume,
                self.bundle,
                replace(self.settings, options=case.options),
                roots=tuple(case.images),
                read_seconds=read.seconds,
                progress=self._windows,
                teller=teller,
            )
            self.hear.stage("writing")
            record = stage(result, self.work)
            go_on()
            with uncut():
                aside = self._files(case).publish(self.work)
                notes = [*([there.why] if there.why else []), *record["warnings"]]
                notes += [f"kept as {path.name}" for path in aside]
                self.over[place] = self._report(case, "done", result, notes, time.perf_counter() - start)
        except Exception as error:  # noqa: BLE001  whatever one case brings, the others are done
            go_on()  # it may come of a stop that a library made an error of
            failure = Failure.of(case.name, error, case.images[0] if case.images else "", teller)
            seconds = time.perf_counter() - start
            self.over[place] = CaseReport(case.name, "failed", failure=failure, seconds=seconds)

    def _windows(self, done: int, total: int) -> None:
        go_on()
        self.hear.windows(done, total)

    def _report(self, case: Case, status: str, result: CaseResult, notes: Sequence[str], seconds: float) -> CaseReport:
        return CaseReport(
            case.name,
            status,
            self._files(case).folder,
            result.measurements,
            notes=tuple(notes),
            outside_domain=tuple(violation.message for violation in result.outside_domain),
            seconds=seconds,
            mark=result.mark,
        )

    def _leave(self, case: Case, there: Found) -> CaseReport:
        """The report of a case that stays as it is: from its record, or measured when somebody edited it."""
        record = there.record or {}
        outside = tuple(str(row["message"]) for row in record.get("outside_domain", ()))
        if there.edited is not None:
            rows = tuple(_flag(m, there.why) for m in measure(there.edited, self.bundle.labels))
        else:
            rows = tuple(Measurement.from_row(row) for row in record.get("measurements", ()))
            rows = tuple(_flag(m, there.why) for m in rows) if there.state == "kept" else rows
        status = "kept" if there.state == "kept" else "finished before"
        notes = (there.why,) if there.why else ()
        folder = self._files(case).folder
        mark = str(next((row["outside_domain"] for row in record.get("measurements", ())), "no"))
        return CaseReport(case.name, status, folder, rows, notes=notes, outside_domain=outside, mark=mark)

    def write(self, state: str) -> None:
        """Write what the folder holds beside its cases; `state` is 'running', 'done' or 'interrupted'."""
        instances = self.bundle.finds_instances
        if state != "running" and not self.settings.views:
            forget_index(self.out)
        write_run(
            self.out,
            self.reports,
            self.fixed,
            self.settings,
            state,
            self.earlier.without({case.name for case in (self.cases if state == "running" else self.reports)}),
            instances=instances,
            listed=self.listed,
        )


def foreseen(
    cases: Sequence[Case],
    bundle: Bundle,
    settings: Settings,
    out: Path,
    identity: Identity,
    *,
    resume: bool,
    overwrite: bool,
) -> dict[str, str]:
    """Case -> why a run would leave it as it is; raises what the run would raise for the state of its folder."""
    if not out.is_dir():
        return {}
    fixed = run_settings(bundle, settings, identity)
    open_folder(out, fixed, resume=resume, overwrite=overwrite)
    if not resume:
        return {}
    found = {case.name: _found(case, out, settings, fixed, identity) for case in cases}
    return {name: there.why or "finished before" for name, there in found.items() if there.state in _STAYS}


def _found(case: Case, out: Path, settings: Settings, fixed: Mapping[str, Any], identity: Identity) -> Found:
    files, teller = CaseFiles(out, case.name, settings.flat), identity.of(case)
    return find(files, {**fixed, "read": teller.read_options(case.options)}, tuple(case.images), teller)


def _flag(measurement: Measurement, why: str) -> Measurement:
    flags = (*measurement.flags, why)
    structure, value = measurement.structure, measurement.value
    return Measurement(structure, value, measurement.voxels, measurement.volume_ml, flags, count=measurement.count)
