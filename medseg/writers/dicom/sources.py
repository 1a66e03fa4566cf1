"""The DICOM images that a volume was read from, as the objects derived from it must name them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom import Dataset

from medseg.errors import InputError, MedsegError, UsageError
from medseg.writers.dicom.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medseg.volume import Volume

#: What a derived object must state of its sources; without one of them it belongs to nobody and lies nowhere.
REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
#: All that is read of the slices behind the first.
_PLACE = (
    *REQUIRED,
    "ImageType",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


@dataclass(frozen=True)
class Instance:
    """One source object: its SOP class, its SOP instance and its series."""

    sop_class: str
    sop_uid: str
    series_uid: str


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """One source image whose place is known.

    Args:
        instance: which of the instances holds it.
        number: its frame number from 1, None in an object of a single frame.
        position: (3,) LPS mm of its first pixel's centre.
        axes: (2, 3) directions of increasing column index and of increasing row index, LPS.
        spacing: mm between rows, then between columns.
        shape: rows, columns.
    """

    instance: int
    number: int | None
    position: np.ndarray
    axes: np.ndarray
    spacing: tuple[float, float]
    shape: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Sources:
    """The images that a volume was read from.

    Args:
        instances: every source object, each once.
        frames: those of their images that belong to the volume; () where they cannot be told (mosaics).
        header: the first object's tags without its pixels: patient, study, equipment.
        deidentified: whether they say nothing of who they are about, see `deidentify`.
    """

    instances: tuple[Instance, ...]
    frames: tuple[SourceFrame, ...]
    header: Dataset
    deidentified: bool = False

    @property
    def modality(self) -> str:
        """DICOM's term, '' where it is not said."""
        return str(self.header.get("Modality") or "")

    @cached_property
    def by_series(self) -> dict[str, list[Instance]]:
        """SeriesInstanceUID -> its instances."""
        series: dict[str, list[Instance]] = {}
        for instance in self.instances:
            series.setdefault(instance.series_uid, []).append(instance)
        return series


#: What every writer of this room takes as its sources.
SourceLike = Sources | Sequence[Path | Dataset]


def sources_of(volume: Volume) -> Sources:
    """The DICOM images that a volume was read from; of a multi-frame file only the frames that it took.

    Args:
        volume: the image, from `medseg.read`.

    Raises:
        UsageError: MS-D401 it was not read from DICOM images.
        InputError: MS-D402 to MS-D404, see `read_sources`.
    """
    source = volume.source
    if source.format != "dicom" or not source.files:
        raise UsageError(
            "MS-D401",
            f"this volume was read as {source.format!r}: there are no DICOM images that a DICOM result could name",
            file=source.path,
            mend="leave out --dicom, or give the DICOM series itself",
        )
    return read_sources(source.files, source.details.get("frames"))


def as_sources(sources: SourceLike) -> Sources:
    """`sources` as they are, or read from files or datasets."""
    return sources if isinstance(sources, Sources) else read_sources(sources)


def read_sources(sources: Sequence[Path | Dataset], frames: Sequence[Sequence[int]] | None = None) -> Sources:
    """The tags of source objects; pixels are not read.

    Args:
        sources: files or datasets: the slices of a series in any order, multi-frame objects, mosaics.
        frames: for each of them the numbers (from 1) of the frames that belong to the volume; None: all.

    Raises:
        InputError: MS-D402 one of them lacks a UID that a derived object must state, MS-D403 they belong to several
            patients' studies or frames of reference, MS-D404 one cannot be parsed.
    """
    if not sources:
        msg = "a derived DICOM object names at least one source"
        raise ValueError(msg)
    with quiet():
        datasets = [_tags(source, whole=n == 0) for n, source in enumerate(sources)]
        places = [Path(s) if isinstance(s, str | Path) else None for s in sources]
        for dataset, place in zip(datasets, places, strict=True):
            _require(dataset, place)
        _require_one(datasets, places)
        found: list[SourceFrame] = []
        instances: dict[Instance, int] = {}
        for n, dataset in enumerate(datasets):
            sop_class, sop_uid, series_uid = (str(dataset[name].value) for name in _IDENTITY)
            instance = Instance(sop_class, sop_uid, series_uid)
            index = instances.setdefault(instance, len(instances))
            with _parsing(places[n]):
                found += _frames(dataset, index, None if frames is None else set(frames[n]))
    return Sources(tuple(instances), tuple(found), datasets[0])


def _tags(source: Path | Dataset, *, whole: bool) -> Dataset:
    if isinstance(source, Dataset):
        return source
    with _parsing(Path(source)):
        only: list[str] | None = None if whole else [*_PLACE]
        dataset = pydicom.dcmread(source, stop_before_pixels=True, force=True, specific_tags=only)
        for name, meta in (
            ("SOPClassUID", "MediaStorageSOPClassUID"),
            ("SOPInstanceUID", "MediaStorageSOPInstanceUID"),
        ):
            if not dataset.get(name) and dataset.file_meta.get(meta):
                setattr(dataset, name, dataset.file_meta[meta].value)
        return dataset


@contextmanager
def _parsing(place: Path | None) -> Iterator[None]:
    """What pydicom raises at a damaged file, of many kinds, as one InputError."""
    try:
        yield
    except (MedsegError, MemoryError):
        raise
    except Exception as error:
        raise InputError(
            "MS-D404",
            f"the tags of this source image cannot be parsed ({type(error).__name__}: {error})",
            file=place,
            mend="copy or export the series again, or leave out --dicom",
        ) from error


def _require(dataset: Dataset, place: Path | None) -> None:
    missing = [name for name in REQUIRED if not dataset.get(name)]
    if missing:
        raise InputError(
            "MS-D402",
            f"this source image has no {', '.join(missing)}, which every object derived from it must state",
            file=place,
            mend="export the original series (or one that was de-identified with its UIDs kept), or leave out --dicom",
        )


def _require_one(datasets: Sequence[Dataset], places: Sequence[Path | None]) -> None:
    for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
        for dataset, place in zip(datasets, places, strict=True):
            if dataset[name].value != datasets[0][name].value:
                raise InputError(
                    "MS-D403",
                    f"the source images do not share one {name}: {datasets[0][name].value} and {dataset[name].value}",
                    file=place,
                    mend="leave out --dicom: one DICOM object cannot be derived from both",
                )


def _frames(dataset: Dataset, instance: int, wanted: set[int] | None) -> list[SourceFrame]:
    if "MOSAIC" in (dataset.get("ImageType") or ()):
        return []  # its slices are tiles of one frame: they have no number that could be named
    shape = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        place = [dataset.get(name) for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")]
        return _placed(instance, None, place, shape)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    found = []
    for number, frame in enumerate(per_frame, start=1):
        if wanted is None or number in wanted:
            place = [
                _group(frame, shared, "PlanePositionSequence", "ImagePositionPatient"),
                _group(frame, shared, "PlaneOrientationSequence", "ImageOrientationPatient"),
                _group(frame, shared, "PixelMeasuresSequence", "PixelSpacing"),
            ]
            found += _placed(instance, number, place, shape)
    return found


def _group(frame: Dataset, shared: Dataset, group: str, name: str) -> Any:
    for level in (frame, shared):
        if sequence := level.get(group):
            return sequence[0].get(name)
    return None


def _placed(instance: int, number: int | None, place: list[Any], shape: tuple[int, int]) -> list[SourceFrame]:
    if not all(place):
        return []
    position, orientation, spacing = (np.array([float(x) for x in values]) for values in place)
    rows_mm, cols_mm = float(spacing[0]), float(spacing[1])
    return [SourceFrame(instance, number, position, orientation.reshape(2, 3), (rows_mm, cols_mm), shape)]
