"""What a DICOM reader sees in a file that was just written, compared with what was meant: every value and place."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import highdicom as hd
import numpy as np

from medseg.errors import MedsegError, OutputError
from medseg.writers.atomic import atomic_write
from medseg.writers.dicom.frames import frame_corners
from medseg.writers.dicom.maker import text
from medseg.writers.dicom.quiet import quiet
from medseg.writers.dicom.segments import member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from medseg.writers.dicom.frames import FrameGrid
    from medseg.writers.dicom.segments import Segment

#: How far a frame's corner pixels may lie from where they belong.
TOLERANCE_MM = 1e-3


class MismatchError(Exception):
    """What was read back is not what was meant."""


@contextmanager
def mismatch(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong in a comparison into MS-O401 of the target `path`."""
    try:
        yield
    except (MedsegError, OSError, MemoryError):
        raise
    except Exception as error:  # pydicom and highdicom raise many kinds
        what = str(error) if isinstance(error, MismatchError) else f"{type(error).__name__}: {error}"
        raise OutputError(
            "MS-O401",
            f"a DICOM reader would not see in it what was meant ({what}); nothing was left behind",
            file=path,
            mend="use the NIfTI results, which are not touched by this, and report it with the message above",
        ) from error


def write_checked(path: Path, made: Dataset, check: Callable[[Path], None]) -> None:
    """Write an object atomically; it stays only when `check` is content with the file.

    Args:
        path: the file.
        made: the object.
        check: reads a file back and raises `MismatchError` where it is not what was meant.

    Raises:
        OutputError: MS-O401 what was read back is another; MS-O101 to MS-O106.
    """

    def write(temporary: Path) -> None:
        with quiet():
            made.save_as(temporary, enforce_file_format=True)
            with mismatch(path):
                check(temporary)

    atomic_write(path, write)


def check_seg(path: Path, labels: np.ndarray, segments: Sequence[Segment], frames: FrameGrid) -> None:
    """Compare a SEG with its label map, (slices, rows, columns).

    Raises:
        MismatchError: a place, a voxel or a segment is another.
    """
    seg = hd.seg.segread(path)
    if [(s.SegmentNumber, s.SegmentLabel) for s in seg.SegmentSequence if s.SegmentNumber] != [
        (s.number, text(s.label.name)) for s in segments
    ]:
        _fail("the segments have other numbers or names")
    binary = seg.segmentation_type.value == "BINARY"
    by_number = {s.number: s for s in segments}
    seen: set[tuple[int, int]] = set()
    for index, group in enumerate(seg.PerFrameFunctionalGroupsSequence):
        k = _plane(seg, group, frames)
        stored = seg.get_stored_frame(index, as_index=True)
        if binary:
            number = int(_own_or_shared(seg, group, "SegmentIdentificationSequence").ReferencedSegmentNumber)
            wanted = member(labels[k], by_number[number])
        else:
            number, wanted = 0, labels[k]
        if not np.array_equal(stored, wanted):
            _fail(f"{np.count_nonzero(stored != wanted)} voxels of slice {k} differ")
        if (number, k) in seen:
            _fail(f"slice {k} stands there twice")
        seen.add((number, k))
    for k, plane in enumerate(labels):
        values = set(np.flatnonzero(np.bincount(plane.ravel()))) - {0}
        for segment in segments if binary else ():
            if not values.isdisjoint(segment.values) and (segment.number, k) not in seen:
                _fail(f"slice {k} of segment {segment.number} is missing")
        if values and not binary and (0, k) not in seen:
            _fail(f"slice {k} is missing")


def check_map(path: Path, values: np.ndarray, frames: FrameGrid) -> None:
    """Compare a parametric map with its values, (slices, rows, columns) float32.

    Raises:
        MismatchError: a place or a value is another.
    """
    image = hd.imread(path)
    _ = image.pixel_array  # kept by the object: highdicom cannot decode single frames of floats
    seen = set()
    for index, group in enumerate(image.PerFrameFunctionalGroupsSequence):
        k = _plane(image, group, frames)
        stored = image.get_frame(index, as_index=True, apply_real_world_transform=True)
        if not np.array_equal(stored, values[k]):
            _fail(f"{np.count_nonzero(stored != values[k])} values of slice {k} differ")
        seen.add(k)
    if len(seen) != len(values):
        _fail(f"{len(values) - len(seen)} slices are missing")


def _plane(dataset: Dataset, group: Dataset, frames: FrameGrid) -> int:
    """Which plane a frame is, by its place alone."""
    position = np.array(_numbers(_own_or_shared(dataset, group, "PlanePositionSequence").ImagePositionPatient))
    axes = np.reshape(
        _numbers(_own_or_shared(dataset, group, "PlaneOrientationSequence").ImageOrientationPatient), (2, 3)
    )
    rows_mm, cols_mm = _numbers(_own_or_shared(dataset, group, "PixelMeasuresSequence").PixelSpacing)
    k = frames.nearest(position)
    shape = int(dataset.Rows), int(dataset.Columns)
    corners = frame_corners(position, axes, (rows_mm, cols_mm), shape)
    off = float(np.linalg.norm(corners - frames.corners_mm(k), axis=1).max())
    if shape != frames.shape or not off <= TOLERANCE_MM:
        _fail(f"slice {k} lies {off:.3g} mm off its place, or has another size")
    return k


def _numbers(values: Any) -> list[float]:
    return [float(v) for v in values]


def _own_or_shared(dataset: Dataset, group: Dataset, name: str) -> Dataset:
    sequence = group.get(name) or dataset.SharedFunctionalGroupsSequence[0].get(name)
    return sequence[0]


def _fail(words: str) -> None:
    raise MismatchError(words)
