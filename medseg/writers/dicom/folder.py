"""Everything that a case has to say in DICOM: the SEG, its uncertainty, its measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medseg.writers.dicom.maker import Maker
from medseg.writers.dicom.measurements import write_measurements
from medseg.writers.dicom.parametric_map import write_parametric_map
from medseg.writers.dicom.seg import write_dicom_seg
from medseg.writers.dicom.sources import as_sources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import numpy as np

    from medseg.volume import Volume
    from medseg.writers.dicom.sources import SourceLike, Sources

#: Key of an uncertainty map -> its file.
MAP_FILES = {"entropy": "uncertainty.dcm", "mutual_information": "uncertainty_mutual_information.dcm"}
#: DICOM's integer strings end here, and the numbers that are made of one.
_LARGEST = 2**31 - 1000


def write_dicom(
    folder: str | Path,
    segmentation: Volume,
    sources: SourceLike,
    *,
    bundle_name: str,
    bundle_version: str,
    maps: Mapping[str, np.ndarray] | None = None,
    rows: Sequence[Mapping[str, object]] = (),
    kind: str = "binary",
    warning: str = "",
    when: datetime | None = None,
) -> tuple[Path, ...]:
    """Write seg.dcm, an uncertainty map each, and measurements.dcm into `folder`.

    Each is a series of its own in the sources' study, numbered behind the source series (3 becomes 391 to 394). The
    same arguments give the same bytes. All of them are written or none.

    Args:
        folder: made when missing.
        segmentation: (I, J, K) label map with its label table.
        sources: `sources_of(image)`, or files or datasets of the images that it was made from.
        bundle_name: of the model.
        bundle_version: of the model.
        maps: key of `MAP_FILES` -> (I, J, K) in [0, 1] on the segmentation's grid.
        rows: of measurements.csv; () writes no report.
        kind: of the SEG: 'binary', or 'labelmap' (RLE).
        warning: what stands in every object's description ("OUTSIDE TRAINING DOMAIN"), or "".
        when: the time that the objects state; None: that of the source series.

    Returns:
        The files, as they were written.

    Raises:
        UsageError: MS-D406 nested structures as a label map.
        InputError: MS-D402 to MS-D404 sources that cannot be named, MS-D407 no structure.
        GeometryError: MS-D405 a sheared grid.
        OutputError: MS-O401 what DICOM readers would see is not what was given; MS-O101 to MS-O106.
    """
    folder, sources = Path(folder), as_sources(sources)
    maker = Maker(bundle_name, bundle_version, warning, when)
    first = _series_number(sources)
    done: list[Path] = []
    try:
        seg = write_dicom_seg(folder / "seg.dcm", segmentation, sources, maker, kind=kind, series_number=first)
        done.append(folder / "seg.dcm")
        for n, (name, array) in enumerate((maps or {}).items(), start=1):
            path, affine = folder / MAP_FILES[name], segmentation.affine
            write_parametric_map(path, array, affine, sources, maker, name=name, series_number=first + n)
            done.append(path)
        if rows:
            path, number = folder / "measurements.dcm", first + 1 + len(MAP_FILES)
            write_measurements(path, rows, segmentation, sources, maker, seg=seg, kind=kind, series_number=number)
            done.append(path)
    except BaseException:
        for path in done:
            path.unlink(missing_ok=True)
        raise
    return tuple(done)


def _series_number(sources: Sources) -> int:
    """The first number behind the source series, as scanners number what they derive: 3 -> 391."""
    try:
        number = int(sources.header.get("SeriesNumber") or 0)
    except (ValueError, TypeError, OverflowError):  # a text
        number = 0
    return 100 * number + 91 if 0 < number < _LARGEST // 100 else 9991
