"""DICOM Segmentation objects (SEG) as label volumes: binary, fractional and labelmap, sparse or not.

Frames lie anywhere in the file; highdicom sorts them into one regular lattice by their positions and fills the
slices that the writer left out because they were empty. Values of the label map are the segment numbers.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import highdicom as hd
import numpy as np
import pydicom
from highdicom.color import CIELabColor
from pydicom.uid import ExplicitVRLittleEndian

from medseg.errors import GeometryError, InputError
from medseg.geometry import flip_ras_lps
from medseg.labels import Label
from medseg.readers.dicom.coded import code_of, palette_colour, parsing, table_of
from medseg.readers.dicom.decoder import decoded
from medseg.readers.dicom.deflated import require_inflatable
from medseg.readers.dicom.headers import read_header
from medseg.readers.dicom.pixels import require_decoder
from medseg.readers.dicom.series import quiet
from medseg.readers.options import ReadOptions
from medseg.readers.payload import require_room
from medseg.readers.segments import wanted_values
from medseg.readers.sniff import require_file
from medseg.volume import Decision, Source, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A fractional voxel belongs to a segment from this share of MaximumFractionalValue on.
_HALF = 0.5


def read_seg(
    path: str | Path, options: ReadOptions | None = None, *, segments: Sequence[str | int] | None = None
) -> Volume:
    """Read a DICOM SEG as a label map.

    Args:
        path: the SEG file.
        options: see `ReadOptions`.
        segments: names or numbers of the segments to read; None: those of `options`, else all.

    Returns:
        (columns, rows, slices) uint8 or uint16 of segment numbers, 0 where there is none; names, colours and
        codes in `labels`.

    Raises:
        InputError: MS-D301 it cannot be parsed, MS-D302 whole-slide microscopy, MS-D305 segments overlap,
            MS-D306 a segment that is not in it.
        GeometryError: MS-D303 no place in the patient, MS-D304 frames on no regular lattice.
    """
    options, path = options or ReadOptions(), Path(path)
    segments = options.wanted_segments if segments is None else segments
    require_file(path)
    with quiet(), parsing(path, "MS-D301", "DICOM SEG"):
        seg = _open(path, options)
        _require_volume(seg, path)
        _require_all_frames(seg)
        table = table_of(_label(item, n) for n, item in enumerate(seg.SegmentSequence) if item.SegmentNumber > 0)
        wanted = wanted_values(table, segments, path, "segment")
        shape, affine_lps = _lattice(seg, path)
        require_room(path, shape, np.dtype(np.uint8), options)
        array, decisions = _label_map(seg, wanted, table, path)
    if segments is not None:
        table = table_of(label for label in table if label.value in wanted)
    array, affine = _columns_first(array, flip_ras_lps(affine_lps))
    source = Source(
        path=path,
        format="dicom-seg",
        files=(path,),
        modality="SEG",
        series_uid=_text(seg, "SeriesInstanceUID"),
        series_number=None if seg.get("SeriesNumber") is None else int(seg.SeriesNumber),
        frame_of_reference=_text(seg, "FrameOfReferenceUID"),
        description=str(seg.get("SeriesDescription") or ""),
        decisions=tuple(decisions),
        details={"segmentation_type": seg.segmentation_type.value, "referenced_series": _referenced_series(seg)},
    )
    return Volume(array, affine, source, table)


def _open(path: Path, options: ReadOptions) -> hd.seg.Segmentation:
    require_inflatable(path)
    dataset = pydicom.dcmread(path, force=True)
    if "SegmentSequence" not in dataset:
        what = f"this is no segmentation (Modality {dataset.get('Modality')!r})"
        raise InputError("MS-D301", what, file=path, mend="name the DICOM SEG file")
    _decompress(dataset, path, options)
    return hd.seg.Segmentation.from_dataset(dataset, copy=False)


def _decompress(dataset: pydicom.FileDataset, path: Path, options: ReadOptions) -> None:
    """Put native frames in the place of compressed ones, decoded in a process of its own as those of images are."""
    header = read_header(path) if dataset.file_meta.TransferSyntaxUID.is_compressed else None
    if header is None:
        return
    frames, rows, cols, bits = (int(header.get(key) or 1) for key in ("frames", "rows", "cols", "bits_allocated"))
    require_room(path, (cols, rows, frames), np.dtype(np.uint16), options)
    require_decoder(header.syntax, path)
    out = np.empty((frames, rows, cols), np.uint8 if bits == 1 else f"<u{bits // 8}")
    with closing(decoded([(header, n) for n in range(frames)])) as images:
        for n, image in enumerate(images):
            out[n] = image
    data = np.packbits(out != 0, bitorder="little").tobytes() if bits == 1 else out.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    dataset["PixelData"].is_undefined_length = False
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _require_volume(seg: Any, path: Path) -> None:
    if "TotalPixelMatrixRows" in seg or seg.get("DimensionOrganizationType") in ("TILED_FULL", "TILED_SPARSE"):
        raise InputError(
            "MS-D302",
            "a segmentation of a whole-slide microscopy image, which is no volume of a patient",
            file=path,
            mend="medseg reads segmentations of CT, MR and PET; use QuPath or highdicom for slides",
        )
    if not seg.get("FrameOfReferenceUID") or seg.coordinate_system is None:
        raise GeometryError(
            "MS-D303",
            "a segmentation of a single projection image (X-ray): its pixels have no place in the patient",
            file=path,
            mend="medseg reads segmentations of CT, MR and PET",
        )


def _require_all_frames(seg: Any) -> None:
    # Neither pydicom nor highdicom minds frames too many or too few: they would move into each other's place.
    frames, groups = int(seg.NumberOfFrames), len(seg.PerFrameFunctionalGroupsSequence)
    if frames != groups:
        msg = f"{frames} frames with {groups} functional groups"
        raise ValueError(msg)
    need = -(-frames * seg.Rows * seg.Columns * seg.BitsAllocated // 8)
    if not seg.file_meta.TransferSyntaxUID.is_compressed and len(seg.PixelData) not in (need, need + 1):
        msg = (
            f"{len(seg.PixelData)} bytes of pixel data where {frames} frames of {seg.Rows} x {seg.Columns} take {need}"
        )
        raise ValueError(msg)


def _lattice(seg: Any, path: Path) -> tuple[tuple[int, int, int], np.ndarray]:
    try:
        geometry = seg.get_volume_geometry()
    except (ValueError, RuntimeError, AttributeError, KeyError) as error:
        geometry, found = None, f" ({error})"
    else:
        found = ""
    if geometry is None:
        raise GeometryError(
            "MS-D304",
            f"its frames lie on no regular lattice of parallel slices{found}",
            file=path,
            mend="export the segmentation on the grid of its image, for example from 3D Slicer",
        )
    return geometry.spatial_shape, np.asarray(geometry.affine, np.float64)


def _columns_first(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(slice, row, column) -> (column, row, slice), slices along row x column as medseg reads DICOM images."""
    array, affine = array.transpose(2, 1, 0), affine[:, [2, 1, 0, 3]]
    if np.linalg.det(affine[:3, :3]) < 0:
        affine[:3, 3] += affine[:3, 2] * (array.shape[2] - 1)
        affine[:3, 2] *= -1
        array = array[:, :, ::-1]
    return array, affine


def _label_map(seg: Any, wanted: list[int], table: Any, path: Path) -> tuple[np.ndarray, list[Decision]]:
    dtype = np.uint8 if max(wanted) < 256 else np.uint16
    kind = seg.segmentation_type.value
    if kind == "LABELMAP":
        array = seg.get_volume(combine_segments=True, dtype=np.uint16, skip_overlap_checks=True).array
        return np.where(np.isin(array, wanted), array, 0).astype(dtype), []
    out, decisions, between = None, [], 0
    for number in wanted:  # one at a time: a file of 100 structures would not fit all at once
        kept = seg.get_volume(segment_numbers=[number], rescale_fractional=False).array[..., 0]
        if kind == "FRACTIONAL":
            most = int(seg.MaximumFractionalValue)
            between += int(((kept > 0) & (kept < most)).sum())
            kept = kept >= _HALF * most
        if out is None:
            out = np.zeros(kept.shape, dtype)
        mask = kept.astype(bool)
        if (out[mask] > 0).any():
            _refuse_overlap(out, mask, number, table, path)
        out[mask] = number
    if kind == "FRACTIONAL":
        decisions = [_fraction_note(seg, between)]
    return np.asarray(out), decisions


def _fraction_note(seg: Any, between: int) -> Decision:
    what = str(seg.get("SegmentationFractionalType") or "fraction").lower()
    text = f"a fractional segmentation ({what}): voxels at or above 0.5 belong to the segment; {between} lie between 0 and 1"
    return Decision("MS-D310", text, warning=between > 0)


def _refuse_overlap(out: np.ndarray, mask: np.ndarray, number: int, table: Any, path: Path) -> None:
    values, counts = np.unique(out[mask], return_counts=True)
    counts = counts[values > 0]
    other = int(values[values > 0][np.argmax(counts)])
    a, b = table.by_value[other].name, table.by_value[number].name
    raise InputError(
        "MS-D305",
        f"segments {a!r} and {b!r} overlap in {int(counts.max())} voxels; a label map holds one value a voxel",
        file=path,
        mend=f"read them apart: --segments {quote(a)} and --segments {quote(b)} (in Python: segments={a!r})",
    )


def _label(item: Any, index: int) -> Label:
    colour = palette_colour(index)
    if item.get("RecommendedDisplayCIELabValue") is not None:
        red, green, blue = CIELabColor.from_dicom_value(list(item.RecommendedDisplayCIELabValue)).to_rgb()
        colour = (int(red), int(green), int(blue))
    kind = item.get("SegmentedPropertyTypeCodeSequence")
    number = int(item.SegmentNumber)
    return Label(
        value=number,
        name=str(item.get("SegmentLabel") or f"segment {number}"),
        colour=colour,
        category=code_of(item, "SegmentedPropertyCategoryCodeSequence"),
        type=code_of(item, "SegmentedPropertyTypeCodeSequence"),
        modifier=code_of(kind[0], "SegmentedPropertyTypeModifierCodeSequence") if kind else None,
    )


def _referenced_series(seg: Any) -> str | None:
    sequence = seg.get("ReferencedSeriesSequence")
    return _text(sequence[0], "SeriesInstanceUID") if sequence else None


def _text(dataset: Any, keyword: str) -> str | None:
    value = dataset.get(keyword)
    return str(value) if value else None
