"""`medseg predict`: a file, a folder or a list of cases in, one folder a case out.

One bad case never stops the others; nothing is half written; the same folder can be resumed at any time. While a
case is segmented the next one is read.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle.load import Bundle, load_bundle
from medseg.errors import UsageError
from medseg.readers.cases import find_cases, load_case
from medseg.readers.options import ReadOptions
from medseg.workflows.case_run import CaseResult, Settings, run_case
from medseg.workflows.compute import computing, resolve_device
from medseg.workflows.layout import CaseFiles
from medseg.workflows.lock import output_lock
from medseg.workflows.measure import Measurement, measure
from medseg.workflows.outcome import CaseReport, Failure, PredictReport
from medseg.workflows.plan import plan_cases
from medseg.workflows.reporter import Reporter
from medseg.workflows.resume import Found, find, open_folder, run_settings
from medseg.workflows.sampling import check_method, parse_method
from medseg.workflows.stage import stage
from medseg.workflows.summary import Earlier, read_earlier, write_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike

    from medseg.readers.cases import Case
    from medseg.volume import Volume


def predict(
    input: str | PathLike[str],  # noqa: A002  the command's own word
    bundle: str | PathLike[str] | Bundle,
    out: str | PathLike[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    options: ReadOptions | None = None,
    outside_domain: bool = False,
    flat: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    strict: bool = False,
    deterministic: bool = False,
    uncertainty: str | None = None,
    seed: int = 0,
    samples: bool = False,
    views: bool = True,
    mrb: bool = False,
    dicom: str | None = None,
    deface: bool = False,
    progress: Reporter | None = None,
) -> PredictReport:
    """Segment every case of `input` into `out`.

    Args:
        input: a file, a DICOM folder, a folder of cases, an MSD dataset.json, an nnU-Net imagesTr, or a list.
        bundle: a folder, a shipped name, or one that is loaded.
        out: one folder a case is made in it, and summary.csv, failures.csv and record.json.
        device: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps'.
        threads: CPU threads, None for torch's own choice.
        options: the readers' options.
        outside_domain: segment scans unlike the training data too, and mark every output of them.
        flat: label maps side by side as OUT/case.nii.gz, the rest under OUT/details.
        resume: do what is missing; finished cases stay, and so do segmentations edited by hand.
        overwrite: do all again; a file that medseg did not write as it stands is set aside, not deleted.
        dry_run: plan only; nothing is written. The exit code is the one that a run is expected to give.
        strict: refuse where a reader would choose and record a warning.
        deterministic: only algorithms that give the same bits again.
        uncertainty: 'mc', 'mc:20', 'tta', 'ensemble' or 'ensemble+tta'; None: none.
        seed: of Monte Carlo dropout.
        samples: write the labels of every sample too.
        views: write what 3D Slicer and the browser open, and index.html.
        mrb: write each scene as one file too.
        dicom: 'binary' or 'labelmap': write DICOM SEG, parametric maps and measurements for cases from DICOM.
        deface: mask the face of a head in report.html.
        progress: hears what happens.

    Returns:
        What became of each case, and the exit code.

    Raises:
        BundleError: the bundle is refused or has no weights.
        OutputError: MS-O301 to MS-O305, the folder is in use or must not be written.
        UsageError: MS-U301 unknown device, MS-U302 options that contradict each other, MS-U307 unknown kind of
            uncertainty, MS-U308 and MS-U146 to MS-U149 one that the bundle cannot do; MS-O306 `out` lies inside the
            folder that is read.
        InputError: no case was found, or two would write one output.
        KeyboardInterrupt: passed on; what is finished is kept and listed.
    """
    if resume and overwrite:
        what = "--resume keeps what is there and --overwrite replaces it"
        raise UsageError("MS-U302", what, mend="give one of the two")
    source, target, hear = Path(input), Path(out), progress or Reporter()
    options = options or ReadOptions()
    if strict and not options.strict:
        options = replace(options, strict=True)
    if samples and uncertainty is None:
        what = "--samples keeps the samples of --uncertainty, which was not asked for"
        raise UsageError("MS-U302", what, mend="add --uncertainty mc:20")
    if mrb and not views:
        raise UsageError("MS-U302", "--mrb is a view, and --no-views leaves them out", mend="give one of the two")
    if dicom not in (None, "binary", "labelmap"):
        raise UsageError("MS-U302", f"--dicom-seg {dicom!r} is not known", mend="use binary or labelmap")
    method = None if uncertainty is None else parse_method(uncertainty, seed=seed, keep=samples)
    settings = Settings(
        resolve_device(device),
        threads,
        deterministic,
        outside_domain,
        flat,
        options,
        method=method,
        views=views,
        mrb=mrb,
        dicom=dicom,
        deface=deface,
    )
    if not isinstance(bundle, Bundle):
        bundle = load_bundle(os.fspath(bundle), device=settings.device)
    if method is not None:
        check_method(method, bundle)
    cases = _cases(source, target, bundle, options)
    with computing(threads=threads, deterministic=deterministic), hear:
        hear.plan(_plan_line(cases, bundle, settings))
        if dry_run:
            finished = _foreseen(cases, bundle, settings, target, resume=resume, overwrite=overwrite)
            report = PredictReport(target, plan=plan_cases(cases, bundle, settings, target, finished))
        else:
            with output_lock(target) as work:
                run = _Run(cases, bundle, settings, target, work, hear)
                open_folder(target, run.fixed, resume=resume, overwrite=overwrite)
                report = run.all(resume=resume)
        hear.finish(report)
    return report


def _foreseen(
    cases: Sequence[Case], bundle: Bundle, settings: Settings, out: Path, *, resume: bool, overwrite: bool
) -> dict[str, str]:
    """Case -> why a run would leave it as it is; raises what the run would raise for the state of its folder."""
    if not out.is_dir():
        return {}
    fixed = run_settings(bundle, settings)
    open_folder(out, fixed, resume=resume, overwrite=overwrite)
    if not resume:
        return {}
    found = {case.name: _found(case, out, settings, fixed) for case in cases}
    return {name: there.why or "finished before" for name, there in found.items() if there.state in _STAYS}


def _found(case: Case, out: Path, settings: Settings, fixed: Mapping[str, Any]) -> Found:
    files = CaseFiles(out, case.name, settings.flat)
    return find(files, {**fixed, "read": asdict(case.options)}, tuple(case.images))


class _Run:
    """One run over its cases: what they share, and what became of them so far."""

    def __init__(
        self, cases: Sequence[Case], bundle: Bundle, settings: Settings, out: Path, work: Path, hear: Reporter
    ) -> None:
        self.cases, self.bundle, self.settings = cases, bundle, settings
        self.out, self.work, self.hear = out, work, hear
        self.fixed = run_settings(bundle, settings)
        self.reports: list[CaseReport] = []
        self.earlier = Earlier()

    def all(self, *, resume: bool) -> PredictReport:
        """Do every case; what is done when the user interrupts is listed too."""
        if resume:
            self.earlier = read_earlier(self.out, {case.name for case in self.cases})
        self._write("running")
        state = "interrupted"
        try:
            found = {case.name: self._find(case) for case in self.cases} if resume else {}
            waiting = [case for case in self.cases if found.get(case.name, _NEW).state not in _STAYS]
            volumes = _read_ahead(waiting, self.bundle.channels)
            for number, case in enumerate(self.cases, 1):
                self.hear.case(case.name, number, len(self.cases))
                there = found.get(case.name, _NEW)
                stays = there.state in _STAYS
                report = self._leave(case, there) if stays else self._do(case, there, volumes)
                self.reports.append(report)
                self.hear.done(report)
            state = "done"
        finally:
            self._write(state)
        return PredictReport(self.out, tuple(self.reports))

    def _files(self, case: Case) -> CaseFiles:
        return CaseFiles(self.out, case.name, self.settings.flat)

    def _find(self, case: Case) -> Found:
        return _found(case, self.out, self.settings, self.fixed)

    def _do(self, case: Case, there: Found, volumes: Iterator[_Read]) -> CaseReport:
        start = time.perf_counter()
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
                progress=self.hear.windows,
            )
            self.hear.stage("writing")
            record = stage(result, self.work)
            aside = self._files(case).publish(self.work)
        except Exception as error:  # noqa: BLE001  whatever one case brings, the others are done
            failure = Failure.of(case.name, error, case.images[0] if case.images else "")
            return CaseReport(case.name, "failed", failure=failure, seconds=time.perf_counter() - start)
        notes = [*([there.why] if there.why else []), *record["warnings"], *(f"kept as {path.name}" for path in aside)]
        return self._report(case, "done", result, notes, time.perf_counter() - start)

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
        status = "kept" if there.state == "kept" else "finished before"
        notes = (there.why,) if there.why else ()
        folder = self._files(case).folder
        mark = str(next((row["outside_domain"] for row in record.get("measurements", ())), "no"))
        return CaseReport(case.name, status, folder, rows, notes=notes, outside_domain=outside, mark=mark)

    def _write(self, state: str) -> None:
        write_run(self.out, self.reports, self.fixed, self.settings, state, self.earlier)


class _Read:
    """A case that was read, or the error that reading it raised."""

    def __init__(self, case: Case, channels: tuple[str, ...]) -> None:
        start = time.perf_counter()
        self.volume: Volume | Exception
        try:
            self.volume = load_case(case, channels)
        except Exception as error:  # noqa: BLE001  raised again where the case is done
            self.volume = error
        self.seconds = time.perf_counter() - start


_NEW = Found("new")
_STAYS = ("finished", "kept")


def _read_ahead(cases: Sequence[Case], channels: tuple[str, ...]) -> Iterator[_Read]:
    """Read each case, one ahead of the one in use, in a thread of its own."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="medseg-read") as pool:
        waiting = [pool.submit(_Read, case, channels) for case in cases[:1]]
        for following in (*cases[1:], None):
            ready = waiting.pop().result()
            if following is not None:
                waiting.append(pool.submit(_Read, following, channels))
            yield ready
            del ready


def _cases(source: Path, out: Path, bundle: Bundle, options: ReadOptions) -> list[Case]:
    if source.is_dir() and source.resolve() in (out.resolve(), *out.resolve().parents):
        raise UsageError(
            "MS-O306",
            "the output folder lies inside the folder that is read, so results would become input",
            file=out,
            mend="name a folder beside the input with -o",
        )
    return find_cases(source, channels=bundle.channels, options=options)


def _plan_line(cases: Sequence[Case], bundle: Bundle, settings: Settings) -> str:
    roi = getattr(bundle.inferer, "roi_size", None)
    window = "" if roi is None else f" | windows of {'x'.join(str(n) for n in _triple(roi))}"
    method = "" if settings.method is None else f" | uncertainty {settings.method.words}"
    threads = "" if settings.threads is None else f", {settings.threads} threads"
    count = f"{len(cases)} case{'s' if len(cases) != 1 else ''}"
    return f"{count} | {bundle.name} {bundle.version} | {settings.device}{threads}{window}{method}"


def _triple(roi: Any) -> tuple[Any, ...]:
    return tuple(roi) if isinstance(roi, list | tuple) else (roi,) * 3


def _flag(measurement: Measurement, why: str) -> Measurement:
    flags = (*measurement.flags, why)
    return Measurement(measurement.structure, measurement.value, measurement.voxels, measurement.volume_ml, flags)
