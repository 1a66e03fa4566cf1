"""`medseg demo`: the main job, offline, on real anatomy.

Both hippocampi of the MNI152 T1 template (the average of 152 healthy brains, shipped in nilearn's wheel), cut out as
a radiologist would for the bundle, and segmented with it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import MissingExtraError, OutputError
from medseg.readers.open import read
from medseg.volume import Volume
from medseg.workflows.layout import INDEX, RECORD
from medseg.workflows.predict import predict
from medseg.workflows.record import read_record
from medseg.writers.atomic import write_text
from medseg.writers.nifti import write_nifti
from medseg.writers.tables import csv_text

if TYPE_CHECKING:
    from os import PathLike

    from medseg.workflows.outcome import PredictReport
    from medseg.workflows.reporter import Reporter

BUNDLE = "hippocampus_mri_segmentation"
#: Case -> centre of its box, MNI mm (RAS).
CENTRES = {"mni152_hippocampus_left": (-27.0, -22.0, -14.0), "mni152_hippocampus_right": (27.0, -22.0, -14.0)}
SIZE_MM = (32.0, 56.0, 40.0)
INPUT, LIST = "input", "cases.csv"
_TEMPLATE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


def run_demo(
    out: str | PathLike[str] = "demo_out",
    *,
    bundle: str | PathLike[str] = BUNDLE,
    device: str = "auto",
    threads: int | None = None,
    uncertainty: str | None = "mc",
    progress: Reporter | None = None,
) -> PredictReport:
    """Segment the hippocampi of the MNI152 template; a folder made by an earlier demo is done again.

    Args:
        out: a folder a side is made in it.
        bundle: another bundle than the shipped one.
        device: as for `predict`.
        threads: as for `predict`.
        uncertainty: as for `predict`.
        progress: hears what happens.

    Raises:
        MissingExtraError: MS-U305 nilearn is not installed.
        OutputError: MS-O303 `out` holds something else.
        BundleError: the bundle is refused or has no weights.
    """
    template = load_template()
    folder = Path(out)
    if folder.is_dir() and any(folder.iterdir()) and read_record(folder / RECORD) is None and not _ours(folder):
        raise OutputError(
            "MS-O303",
            "this folder is not empty, and not from an earlier demo",
            file=folder,
            mend="name a new folder with -o",
        )
    (folder / INPUT).mkdir(parents=True, exist_ok=True)
    rows = []
    for name, centre in CENTRES.items():
        crop = crop_mm(template, centre, SIZE_MM)
        write_nifti(folder / INPUT / f"{name}.nii.gz", crop.array, crop.affine, description="MNI152 T1 template")
        rows.append({"name": name, "image": f"{INPUT}/{name}.nii.gz"})
    write_text(folder / LIST, csv_text(("name", "image"), rows))
    return predict(
        folder / LIST,
        bundle,
        folder,
        device=device,
        threads=threads,
        overwrite=True,
        uncertainty=uncertainty,
        progress=progress,
    )


def what_to_open(report: PredictReport) -> list[str]:
    """Lines that say what to look at after the demo."""
    lines = [f"look at   {case.folder / 'preview.png'}" for case in report.cases if case.folder is not None]
    return [
        *lines,
        f"or open   {report.out / INDEX}",
        f"or type   medseg view {report.out}   for 3D Slicer or the browser",
    ]


def load_template() -> Volume:
    """The MNI152 T1 template at 1 mm, from nilearn's wheel, without importing nilearn (which takes seconds).

    Raises:
        MissingExtraError: MS-U305 nilearn is not installed, or no longer has the file.
    """
    spec = find_spec("nilearn")
    roots = [] if spec is None else [Path(root) for root in spec.submodule_search_locations or ()]
    for path in (root / _TEMPLATE for root in roots):
        if path.is_file():
            return read(path)
    raise MissingExtraError(
        "MS-U305",
        "the demo takes its brain from nilearn, which is not installed" if not roots else "nilearn has no template",
        mend='pip install "medseg[demo]"',
    )


def crop_mm(volume: Volume, centre_mm: tuple[float, float, float], size_mm: tuple[float, float, float]) -> Volume:
    """The box of `size_mm` (along RAS axes) around a world point, cut out of a volume without resampling."""
    turned = volume.reoriented("RAS")
    middle = turned.grid.to_index(np.array(centre_mm))
    size = np.round(np.array(size_mm) / turned.spacing_mm)
    start = np.round(middle - size / 2).astype(int)
    stop = (start + size).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    grid = turned.grid.crop((i.start, j.start, k.start), (i.stop, j.stop, k.stop))
    return Volume(np.ascontiguousarray(turned.array[i, j, k]), grid.affine, turned.source)


def _ours(folder: Path) -> bool:
    return (folder / LIST).is_file() and (folder / INPUT).is_dir()
