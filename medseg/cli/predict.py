"""`medseg predict INPUT -o OUT -b BUNDLE`: scans in, label maps out."""

from __future__ import annotations

from typing import Annotated

import typer

from medseg.cli import options
from medseg.cli.console import show_json, show_lines, stderr


def predict(
    input: options.Input,
    out: options.Out,
    bundle: options.Bundle,
    device: options.Device = "auto",
    engine: Annotated[
        str,
        typer.Option(metavar="torch|onnx|openvino", help="What computes the network; see medseg bundle export."),
    ] = "torch",
    threads: options.Threads = None,
    uncertainty: Annotated[
        str | None,
        typer.Option(metavar="mc:T|tta|ensemble|ensemble+tta", help="Maps of where the network is unsure."),
    ] = None,
    seed: options.Seed = 0,
    samples: Annotated[bool, typer.Option("--samples", help="Keep every sample as samples.seq.nrrd.")] = False,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="DICOM SEG, uncertainty maps and measurements for scans from DICOM.")
    ] = False,
    dicom_seg: Annotated[
        str, typer.Option("--dicom-seg", metavar="binary|labelmap", help="Kind of DICOM SEG.")
    ] = "binary",
    mrb: Annotated[bool, typer.Option("--mrb", help="The 3D Slicer scene as one file too.")] = False,
    no_views: Annotated[
        bool, typer.Option("--no-views", help="Leave out the scene, the browser report and the copy of the image.")
    ] = False,
    deface_report: Annotated[
        bool, typer.Option("--deface-report", help="Mask the face of a head in report.html.")
    ] = False,
    series: options.Series = None,
    assume_orientation: options.AssumeOrientation = None,
    allow_gaps: options.AllowGaps = False,
    nonfinite: options.Nonfinite = "refuse",
    max_voxels: options.MaxVoxels = 2**31,
    outside_domain: Annotated[
        bool, typer.Option("--outside-domain", help="Segment scans unlike the training data too, and mark the outputs.")
    ] = False,
    flat: Annotated[bool, typer.Option("--flat", help="Label maps side by side as OUT/case.nii.gz.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Do what is missing; edited segmentations stay as they are.")
    ] = False,
    overwrite: options.Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print plan, memory and time; write nothing.")] = False,
    strict: options.Strict = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Only algorithms that give the same bits again; slower.")
    ] = False,
    case_id: options.CaseId = "auto",
    case_key: options.CaseKey = None,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="DICOM results without identity (PS3.15, basic profile).")
    ] = False,
    json: options.Json = False,
) -> None:
    """Segment every case of INPUT with a bundle, on each scan's own grid.

    One folder a case with the label map, its volumes, views for 3D Slicer and the browser, and a record; one bad case
    never stops the others. `medseg view OUT` opens them.
    """
    reading = options.read_options(series, assume_orientation, allow_gaps, nonfinite, strict, max_voxels)
    from medseg.workflows.predict import predict as run
    from medseg.workflows.reporter import ConsoleReporter
    from medseg.workflows.shares import is_first

    try:
        report = run(
            input,
            bundle,
            out,
            device=device,
            engine=engine,
            threads=threads,
            options=reading,
            outside_domain=outside_domain,
            flat=flat,
            resume=resume,
            overwrite=overwrite,
            dry_run=dry_run,
            deterministic=deterministic,
            uncertainty=uncertainty,
            seed=seed,
            samples=samples,
            views=not no_views,
            mrb=mrb,
            dicom=dicom_seg if dicom else None,
            deface=deface_report,
            case_id=case_id,
            case_key=case_key,
            deidentify=deidentify,
            progress=ConsoleReporter(stderr()),
        )
    except KeyboardInterrupt:
        if not dry_run:
            show_lines(["finished cases are kept: the same command with --resume does the others"])
        raise
    if json and is_first():
        show_json(report.to_json())
    raise typer.Exit(report.exit_code)
