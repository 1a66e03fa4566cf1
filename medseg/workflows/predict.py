"""`medseg predict`: a file, a folder or a list of cases in, one folder a case out.

One bad case never stops the others; nothing is half written; the same folder can be resumed at any time. The headers of
all cases are looked at before torch and the bundle load; while a case is segmented the next one is read.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import UsageError
from medseg.readers.options import ReadOptions
from medseg.workflows.engine import engine_device
from medseg.workflows.headers import looked_at
from medseg.workflows.identity.guard import guarded
from medseg.workflows.lock import output_lock
from medseg.workflows.method import parse_method
from medseg.workflows.outcome import PredictReport
from medseg.workflows.reporter import Reporter
from medseg.workflows.resume import open_folder
from medseg.workflows.settings import Settings
from medseg.workflows.shares import is_first, run_shared, several
from medseg.writers.atomic import sha256

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from medseg.bundle.load import Bundle
    from medseg.readers.cases import Case


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
    engine: str = "torch",
    case_id: str = "auto",
    case_key: str | PathLike[str] | None = None,
    deidentify: bool = False,
    progress: Reporter | None = None,
) -> PredictReport:
    """Segment every case of `input` into `out`; the processes of torchrun share them (see `workflows.shares`).

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
        strict: refuse where a reader would choose and record a warning; begin nothing while headers refuse a case.
        deterministic: only algorithms that give the same bits again.
        uncertainty: 'mc', 'mc:20', 'tta', 'ensemble' or 'ensemble+tta'; None: none.
        seed: of Monte Carlo dropout.
        samples: write the labels of every sample too.
        views: write what 3D Slicer and the browser open, and index.html.
        mrb: write each scene as one file too.
        dicom: 'binary' or 'labelmap': write DICOM SEG, parametric maps and measurements for cases from DICOM.
        deface: mask the face of a head in report.html.
        engine: 'torch', or 'onnx' or 'openvino' for what `medseg bundle export` wrote.
        case_id: 'pseudonym' or 'name' of file and folder; 'auto': pseudonyms for cases from DICOM.
        case_key: the file with the key of the pseudonyms; None: medseg-key.json beside the input, or above it.
        deidentify: DICOM objects say nothing of the patient (PS3.15, basic profile).
        progress: hears what happens.

    Returns:
        What became of each case, and the exit code.

    Raises:
        BundleError: the bundle is refused or has no weights; MS-B122, MS-B123, MS-B126, MS-B127 it has no sound export
            for the engine.
        MissingExtraError: MS-U310 the engine is not installed.
        OutputError: MS-O301 to MS-O305, the folder is in use or must not be written.
        UsageError: MS-U301 unknown device, MS-U302 options that contradict each other, MS-U307 unknown kind of
            uncertainty, MS-U400 to MS-U402 pseudonyms or their key, MS-U311 to MS-U313 the engine is unknown or cannot do that, MS-U308 and MS-U146 to MS-U149 one that the bundle cannot do; MS-O306 `out` lies inside the
            folder that is read.
        InputError: no case was found, or two would write one output; MS-C130 `strict`, and headers refuse a case.
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
    if deidentify and case_id == "name":
        what = "--deidentify hides what --case-id name tells"
        raise UsageError("MS-U302", what, mend="give one of the two")
    method = None if uncertainty is None else parse_method(uncertainty, seed=seed, keep=samples)
    settings = Settings(
        device,
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
        engine=engine,
        deidentify=deidentify,
    )
    cases, identity = looked_at(
        source,
        target,
        bundle,
        options,
        hear if is_first() else Reporter(),
        mode="pseudonym" if deidentify else case_id,
        key_file=None if case_key is None else Path(case_key),
        write=not dry_run,
    )
    # Only here torch and MONAI load, which takes seconds: what is wrong with the words and the files has been told.
    from medseg.bundle.export_engine import on_engine
    from medseg.bundle.load import Bundle, load_bundle
    from medseg.workflows.compute import computing
    from medseg.workflows.instance_samples import check_instance_method
    from medseg.workflows.plan import plan_cases
    from medseg.workflows.run import Run, foreseen
    from medseg.workflows.sampling import check_method

    settings = replace(settings, device=engine_device(engine, device))
    if not isinstance(bundle, Bundle):
        bundle = load_bundle(os.fspath(bundle), device=settings.device)
    bundle = on_engine(bundle, engine, threads=threads)
    if method is not None:
        (check_instance_method if bundle.finds_instances else check_method)(method, bundle)
    tell = cache(lambda: identity.whole(cases))
    with computing(threads=threads, deterministic=deterministic), hear, guarded(tell):
        if is_first():
            hear.plan(_plan_line(cases, bundle, settings) + identity.words)
            identity.remember(() if dry_run else cases)
        if dry_run:
            finished = foreseen(cases, bundle, settings, target, identity, resume=resume, overwrite=overwrite)
            report = PredictReport(target, plan=plan_cases(cases, bundle, settings, target, finished, identity))
        elif several():
            run = Run(cases, bundle, settings, target, target, hear, identity)
            run.listed = _listed(source)
            report = run_shared(run, resume=resume, overwrite=overwrite)
        else:
            with output_lock(target) as work:
                run = Run(cases, bundle, settings, target, work, hear, identity)
                run.listed = _listed(source)
                open_folder(target, run.fixed, resume=resume, overwrite=overwrite)
                report = run.all(resume=resume)
        if is_first():
            identity.remember()
            hear.finish(report)
    return report


def _listed(source: Path) -> str | None:
    """The SHA-256 of a list of cases."""
    listed = source.is_file() and source.suffix.lower() in (".csv", ".tsv", ".json")
    return sha256(source) if listed else None


def _plan_line(cases: Sequence[Case], bundle: Bundle, settings: Settings) -> str:
    roi = getattr(bundle.inferer, "roi_size", None)
    window = "" if roi is None else f" | windows of {'x'.join(str(n) for n in _triple(roi))}"
    method = "" if settings.method is None else f" | uncertainty {settings.method.words}"
    threads = "" if settings.threads is None else f", {settings.threads} threads"
    threads += "" if settings.engine == "torch" else f", {settings.engine}"
    count = f"{len(cases)} case{'s' if len(cases) != 1 else ''}"
    return f"{count} | {bundle.name} {bundle.version} | {settings.device}{threads}{window}{method}"


def _triple(roi: Any) -> tuple[Any, ...]:
    return tuple(roi) if isinstance(roi, list | tuple) else (roi,) * 3
