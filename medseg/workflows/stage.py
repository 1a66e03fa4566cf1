"""Every file of one case, made in a work folder; the record with their hashes comes last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import MedsegError
from medseg.labels import LabelTable
from medseg.reports.case_view import CaseView, map_file
from medseg.reports.deface import deface, looks_like_head
from medseg.reports.html import report_html
from medseg.reports.mrb import write_mrb
from medseg.reports.preview import preview_png
from medseg.reports.scene import write_scene
from medseg.reports.segment_tags import segment_tags
from medseg.workflows import record as records
from medseg.workflows.layout import FILES, INSTANCE_LIST, INSTANCE_MAP, RECORD, SEGMENTATION, made
from medseg.workflows.measure import columns_of
from medseg.workflows.seal import sealed
from medseg.writers.atomic import sha256, write_bytes, write_json, write_text
from medseg.writers.nifti import write_nifti
from medseg.writers.seg_nrrd import write_seg_nrrd
from medseg.writers.sequence import write_sequence
from medseg.writers.tables import csv_text

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.workflows.case_run import CaseResult
    from medseg.workflows.instances import Placed

UNDECLARED = "domain not declared"
#: More instances than this are not named on the picture.
MOST_NAMED = 24
#: What stands in the label map's header and on the picture.
WARNINGS = {"yes": records.OUTSIDE, "not declared": UNDECLARED}


def stage(result: CaseResult, work: Path) -> dict[str, Any]:
    """Make every file of a case in `work`, each read again, the record last; returns the complete record.

    Raises:
        OSError, OutputError: the disk is full or fails; nothing has left `work` then.
    """
    start = time.perf_counter()
    for file in FILES:  # what a case before left when it failed
        (work / file).unlink(missing_ok=True)
    view = case_view(result)
    _tables(result, view, work)
    write_bytes(work / "preview.png", _picture(result, view))
    for key, array in view.maps.items():
        write_nifti(work / map_file(key), array, view.segmentation.affine, description=f"{key} / ln C, 0 to 1")
    notes = [*result.record["warnings"]]
    if result.settings.views:
        _viewers(result, view, work)
    if result.uncertain is not None and result.uncertain.kept is not None:
        kept = result.uncertain.kept
        write_sequence(work / "samples.seq.nrrd", iter(kept), view.segmentation.affine, count=len(kept))
    if result.settings.dicom:
        notes += _dicom(result, view, work)
    seconds = {**result.record["seconds"], "write": time.perf_counter() - start}
    record = sealed(
        {
            **result.record,
            "warnings": notes,
            "seconds": {key: round(value, 4) for key, value in seconds.items()},
            "outputs": {file: sha256(work / file) for file in made(work)},
        }
    )
    write_json(work / RECORD, record)
    return record


def case_view(result: CaseResult) -> CaseView:
    """What the viewers of a case show: its structures, or each of its instances as one (and what stuff there is)."""
    shown = None if result.instances is None else result.instances.shown()
    of = result.measurements
    if result.instances is not None and shown is not None:
        of = result.instances.shown_rows(of)
    return CaseView(
        result.name,
        result.image,
        result.segmentation if shown is None else shown,
        {} if result.uncertain is None else result.uncertain.maps,
        [m.row(outside_domain=result.mark) for m in of],
        WARNINGS.get(result.mark, ""),
        result.notes,
    )


def _tables(result: CaseResult, view: CaseView, work: Path) -> None:
    """The label map and what was measured of it, and the instances where there are some."""
    rows = [m.row(outside_domain=result.mark) for m in result.measurements]
    write_nifti(
        work / SEGMENTATION,
        result.segmentation.array,
        result.segmentation.affine,
        labels=result.segmentation.labels or LabelTable(()),
        description=view.warning or "medseg: research use only",
    )
    write_text(work / "measurements.csv", csv_text(columns_of(instances=result.instances is not None), rows))
    write_json(
        work / "measurements.json",
        {
            "case": result.name,
            "notice": records.RESEARCH,
            "domain_declared": result.record["domain_declared"],
            "outside_domain": [violation.message for violation in result.outside_domain],
            "uncertainty": result.record["uncertainty"],
            "structures": [{**row, "flags": list(m.flags)} for row, m in zip(rows, result.measurements, strict=True)],
        },
    )
    if result.instances is not None:
        _instances(result, result.instances, view, work)


def _instances(result: CaseResult, found: Placed, view: CaseView, work: Path) -> None:
    """The map of ids, and what was found of each."""
    ids = found.ids
    write_nifti(work / INSTANCE_MAP, ids.array, ids.affine, description=view.warning or "ids of instances.json")
    head = {"case": result.name, "notice": records.RESEARCH, "outside_domain": result.mark}
    write_json(work / INSTANCE_LIST, found.to_json(**head, uncertainty=result.record["uncertainty"]))


def _viewers(result: CaseResult, view: CaseView, work: Path) -> None:
    """3D Slicer's scene and the browser's page, with the image beside them: the folder can be moved or sent."""
    image = view.image.array
    write_nifti(work / "image.nii.gz", image if image.ndim == 3 else image[0], view.image.affine)
    write_seg_nrrd(work / "segmentation.seg.nrrd", view.segmentation, tags=segment_tags(view.rows))
    write_scene(work, view)
    if result.settings.mrb:
        write_mrb(work, work / "scene.mrb")
    write_text(work / "report.html", report_html(view, deface=result.settings.deface))


def _dicom(result: CaseResult, view: CaseView, work: Path) -> list[str]:
    """DICOM objects; a case that has none for a reason keeps its other results, and the reason is told."""
    # highdicom takes a second to import
    from medseg.writers.dicom import Deidentifier, deidentified, sources_of, write_dicom

    bundle, teller = result.record["bundle"], result.teller
    try:
        sources = sources_of(result.image)
        if result.settings.deidentify:
            assert teller is not None
            assert teller.key is not None
            sources = deidentified(sources, Deidentifier(teller.key.salt))
        write_dicom(
            work / "dicom",
            view.segmentation,
            sources,
            bundle_name=str(bundle["name"]),
            bundle_version=str(bundle["version"]),
            maps={key: np.asarray(array) for key, array in view.maps.items()},
            rows=view.rows,
            kind=result.settings.dicom or "binary",
            warning=view.warning,
        )
    except MedsegError as error:
        if error.code.startswith("MS-O1"):  # the disk
            raise
        what = error.what if teller is None else teller.text(error.what)
        return [f"no DICOM objects: {error.code} {what}"]
    return []


def _picture(result: CaseResult, view: CaseView) -> bytes:
    """The case's preview.png."""
    table = view.segmentation.labels or LabelTable(())
    legend = [f"{m.structure}  {m.volume_ml:.2f} mL" for m in result.measurements[: len(table)]]
    if view.segmentation is not result.segmentation:
        legend = [str(row["structure"]) for row in view.rows] if len(table) <= MOST_NAMED else []
    warning = WARNINGS.get(result.mark, "")
    image = result.image
    if result.settings.deface and looks_like_head(image):
        image = deface(image, result.segmentation.array)
    return preview_png(image, view.segmentation, table, title=result.name, warning=warning, legend=legend)
