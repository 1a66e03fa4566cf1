"""A label map as a DICOM SEG, read back frame by frame before it is kept.

BINARY (a frame per structure and slice, bits) is what every reader knows. LABELMAP (Supplement 243, 2024) with RLE is
a tenth of its size and quick to write, for readers that know it (3D Slicer through dcmqi, OHIF from 3.11). JPEG-LS
would be smaller still, and dcmqi refuses it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from medseg.writers.dicom.frames import frame_grid
from medseg.writers.dicom.maker import common, content_uid, settle, text
from medseg.writers.dicom.quiet import quiet
from medseg.writers.dicom.readback import check_seg, write_checked
from medseg.writers.dicom.segments import describe, pixels, segments_of
from medseg.writers.dicom.sources import as_sources
from medseg.writers.dicom.template import placement, refer, stand_in

if TYPE_CHECKING:
    from pydicom import Dataset

    from medseg.volume import Volume
    from medseg.writers.dicom.maker import Maker
    from medseg.writers.dicom.sources import SourceLike

#: See `_planes`; of so few slices empty frames are kept.
_FEWEST = 2
_SYNTAX = {"binary": ExplicitVRLittleEndian, "labelmap": RLELossless}


def write_dicom_seg(
    path: str | Path,
    segmentation: Volume,
    sources: SourceLike,
    maker: Maker,
    *,
    kind: str = "binary",
    series_number: int = 1001,
    description: str = "Segmentation",
) -> Dataset:
    """Write a label map as a DICOM SEG, atomically.

    Frames without a voxel are left out, as is usual (a neighbour of a single slice apart): readers place the others by
    their positions.

    Args:
        path: the file.
        segmentation: (I, J, K) label map of integers, its axes in any order; names, colours and codes from its
            `labels`. Nested structures (`Label.region`) become overlapping segments.
        sources: the images that it was made from, see `sources_of`.
        maker: the bundle, and what stands in the content description.
        kind: 'binary', or 'labelmap' (with RLE).
        series_number: of the new series.
        description: of the new series.

    Returns:
        The object that was written, for `write_measurements`.

    Raises:
        UsageError: MS-D406 nested structures as a label map.
        InputError: MS-D402 to MS-D404 sources that cannot be named, MS-D407 no structure.
        GeometryError: MS-D405 a sheared grid.
        OutputError: MS-O401 what DICOM readers would see is not what was given; MS-O101 to MS-O106.
    """
    path, sources = Path(path), as_sources(sources)
    segments = segments_of(segmentation, kind, file=path)
    frames = frame_grid(segmentation.grid, sources, file=path)
    labels = np.ascontiguousarray(frames.frames(segmentation.array))
    planes = _planes(labels)
    table = [(s.number, s.label) for s in segments]
    uid = content_uid("seg", sources, maker, kind, series_number, description, table, frames.grid.affine, labels)
    with quiet():
        seg = hd.seg.Segmentation(
            source_images=[stand_in(sources, frames)],
            pixel_array=pixels(labels[planes], segments),
            segmentation_type=kind.upper(),
            segment_descriptions=describe(segments, sources, maker),
            transfer_syntax_uid=_SYNTAX[kind],
            content_label="SEGMENTATION",
            content_description=text(maker.warning or f"{maker.bundle} {maker.version}"),
            omit_empty_frames=len(planes) != _FEWEST,
            **placement(frames, planes),
            **common(sources, maker, series_number=series_number, uid=uid, description=description),
        )
        refer(seg, sources, frames, codes.cid7203.SegmentationImageDerivation)
        seg.ContentCreatorName = ""  # must be there, and there is no person
        settle(seg, sources, maker)
    write_checked(path, seg, lambda temporary: check_seg(temporary, labels, segments, frames))
    return seg


def _planes(labels: np.ndarray) -> list[int]:
    """The slices that are written: those that are not empty, and at least two.

    Of a single position dcmqi 1.5.7 does not know how thick it is, and 3D Slicer would show a lesion of one slice
    with a thickness of 1e-310 mm.
    """
    planes = [k for k in range(len(labels)) if labels[k].any()] or [len(labels) // 2]
    if len(planes) == 1 and len(labels) > 1:
        planes.append(planes[0] - 1 if planes[0] else 1)
    return sorted(planes)
