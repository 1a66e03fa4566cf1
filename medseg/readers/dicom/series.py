"""A folder of DICOM files -> the volumes it holds, from headers alone, each with a verdict.

Files are grouped by SeriesInstanceUID, then planes by what no volume can mix (orientation, matrix, pixel size,
frame of reference), then `split.py` tells echoes, b-values, instants and the like apart where they coincide.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.readers.dicom.geometry import StackGeometry, classify
from medseg.readers.dicom.headers import Header, find_files, read_headers
from medseg.readers.dicom.mosaic import is_mosaic, mosaic_planes
from medseg.readers.dicom.multiframe import frame_planes
from medseg.readers.dicom.notes import series_notes, stack_notes
from medseg.readers.dicom.objects import is_localizer, kind_of, localizer_refusal, refusal
from medseg.readers.dicom.pixels import check_size
from medseg.readers.dicom.planes import Plane, check_plane, plane_of
from medseg.readers.dicom.split import Part, split_volumes
from medseg.volume import Decision

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from medseg.readers.options import ReadOptions


@dataclass(frozen=True, eq=False)
class Series:
    """One volume of a DICOM folder (a whole series, or a part of one), as its headers tell it.

    Args:
        selector: what to type for --series to pick it.
        uid: SeriesInstanceUID, '' when absent.
        number: SeriesNumber.
        description: SeriesDescription, for the screen only.
        modality: DICOM's term.
        headers: of its files.
        planes: sorted along the normal; () when they could not be sorted.
        geometry: None when it was refused before it could be judged.
        keys: the values that tell it from other volumes of its series.
        index: its place among the volumes of its series, from 0.
        siblings: how many volumes its series holds.
        decisions: what reading it would record.
        error: why it is refused, None when it can be read.
    """

    selector: str
    uid: str
    number: int | None
    description: str
    modality: str | None
    headers: tuple[Header, ...]
    planes: tuple[Plane, ...] = ()
    geometry: StackGeometry | None = None
    keys: Mapping[str, Any] = field(default_factory=dict)
    index: int = 0
    siblings: int = 1
    decisions: tuple[Decision, ...] = ()
    error: InputError | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, in the order of the slices where that is known."""
        return tuple(dict.fromkeys([p.path for p in self.planes] or [h.path for h in self.headers]))

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(columns, rows, slices), None when it is not known."""
        if not self.planes or self.geometry is None or self.geometry.affine_lps is None:
            return None
        return self.planes[0].cols, self.planes[0].rows, self.geometry.slices


@dataclass(frozen=True, eq=False)
class Contents:
    """Everything found in a DICOM folder.

    Args:
        series: image volumes, refused ones included.
        objects: (header, kind, why it is no image) of SEG, RTSTRUCT, reports, localizers and the like.
        damaged: files that are DICOM but cannot be parsed.
        others: files of another kind.
    """

    series: tuple[Series, ...]
    objects: tuple[tuple[Header, str, InputError], ...]
    damaged: tuple[InputError, ...]
    others: tuple[Path, ...]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence: pydicom warns about every oddity of a file; what matters of it becomes a Decision or an error here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def scan(path: Path, options: ReadOptions) -> Contents:
    """What lies in a file or folder (nested folders included), from the headers alone."""
    with quiet():
        headers, damaged, others = read_headers(find_files(path))
        by_series: dict[tuple, list[Header]] = {}
        objects = []
        for header in headers:
            kind = kind_of(header)
            if kind == "dicom":
                by_series.setdefault(_series_key(header), []).append(header)
            else:
                reason = refusal(header) or localizer_refusal(header)
                objects.append((header, kind, reason))
        found: list[list[Series]] = []
        for group in by_series.values():
            images = [h for h in group if not is_localizer(h)]
            if images:
                found.append(_volumes_of(images, len(group) - len(images), options))
            else:
                objects.append((group[0], "dicom-other", localizer_refusal(group[0])))
    notes = _damaged_note(damaged)
    series = [replace(s, decisions=(*s.decisions, *notes)) for s in _with_selectors(found)]
    if options.strict:
        series = [replace(s, error=s.error or _strict_error(s)) for s in series]
    return Contents(tuple(series), tuple(objects), tuple(damaged), tuple(others))


def _series_key(header: Header) -> tuple:
    uid, number = header.get("series_uid"), header.get("series_number")
    return (uid, number) if uid else ("", number, header.get("description"))


def _damaged_note(damaged: Sequence[InputError]) -> list[Decision]:
    if not damaged:
        return []
    return [
        Decision("MS-D213", f"{len(damaged)} damaged DICOM files beside it were left out, such as {damaged[0].file}")
    ]


def _volumes_of(headers: list[Header], localizers: int, options: ReadOptions) -> list[Series]:
    """The volumes of one series; one refused Series when its files cannot even be placed."""
    first = headers[0]
    whole = Series(
        selector="",
        uid=first.get("series_uid") or "",
        number=first.get("series_number"),
        description=first.description,
        modality=first.get("modality"),
        headers=tuple(headers),
        decisions=series_notes(headers, localizers),
    )
    try:
        planes = [plane for header in headers for plane in _planes_of(header)]
        for plane in planes:
            check_plane(plane)
    except InputError as error:
        return [replace(whole, error=error)]
    groups, odd = _groups(planes)
    volumes = []
    for group in groups:
        volumes += _split(
            replace(whole, headers=tuple(dict.fromkeys(p.header for p in group)), decisions=(*whole.decisions, *odd)),
            group,
            options,
        )
    return [replace(v, index=n, siblings=len(volumes)) for n, v in enumerate(volumes)]


def _planes_of(header: Header) -> list[Plane]:
    check_size(header)
    if header.dataset is not None or (header.get("frames") or 1) > 1:
        return frame_planes(header)
    if is_mosaic(header):
        return mosaic_planes(header)
    return [plane_of(header)]


def _groups(planes: list[Plane]) -> tuple[list[list[Plane]], list[Decision]]:
    """Planes that one volume may hold together, and a note when one odd slice beside a stack is left out."""
    groups: list[tuple[tuple, np.ndarray, list[Plane]]] = []
    seen: dict[tuple, list[Plane]] = {}
    for plane in planes:
        key = (plane.rows, plane.cols, plane.header.get("frame_of_reference"), plane.header.get("photometric"))
        exact = (*key, plane.orientation, plane.spacing)
        if exact not in seen:
            numbers = np.array([*(plane.orientation or ()), *(plane.spacing or ())])
            near = (g for k, other, g in groups if k == key and np.abs(numbers - other).max() < 1e-3)
            seen[exact] = next(near, [])
            if not seen[exact]:
                groups.append((key, numbers, seen[exact]))
        seen[exact].append(plane)
    stacks = [group for _, _, group in groups]
    odd = [group[0] for group in stacks if len(group) == 1]
    if len(odd) == 1 and max(map(len, stacks)) >= 3:
        plane = odd[0]
        note = (
            f"{plane.path.name} left out: {plane.rows} x {plane.cols} pixels or an orientation unlike the other slices"
        )
        return [g for g in stacks if len(g) > 1], [Decision("MS-D202", note)]
    return stacks, []


def _split(whole: Series, group: list[Plane], options: ReadOptions) -> list[Series]:
    try:
        parts = split_volumes(group)
    except InputError as error:
        return [replace(whole, planes=(), error=error)]
    return [_judged(whole, part, options) for part in parts]


def _judged(whole: Series, part: Part, options: ReadOptions) -> Series:
    geometry = classify(part.planes)
    decisions = (*whole.decisions, *part.decisions, *stack_notes(part.planes, geometry, options.allow_gaps))
    series = replace(
        whole,
        planes=part.planes,
        headers=tuple(dict.fromkeys(p.header for p in part.planes)),
        geometry=geometry,
        keys=part.keys,
        decisions=decisions,
    )
    error = _geometry_error(series, geometry, options) or _size_error(series, options)
    return replace(series, error=error)


def _geometry_error(series: Series, geometry: StackGeometry, options: ReadOptions) -> GeometryError | None:
    if geometry.kind in ("regular", "tilted", "single-slice"):
        return None
    before, after = series.planes[geometry.gap or 0], series.planes[(geometry.gap or 0) + 1]
    where = f"between {before.place} ({before.path.name}) and {after.place} ({after.path.name})"
    folder = before.path.parent
    if geometry.kind == "scattered":
        return GeometryError(
            "MS-D116",
            f"the slices do not lie on one line: they are up to {geometry.off_line_mm:.3g} mm aside, {where}",
            file=folder,
            mend="export each stack as a series of its own",
        )
    if options.allow_gaps:
        return None
    if geometry.kind == "gapped":
        missing = geometry.slices - len(series.planes)
        code, what = "MS-D104", f"{missing} of {geometry.slices} slices are missing, {where}"
    else:
        steps = np.diff(geometry.index) * np.linalg.norm(geometry.affine_ras[:3, 2])
        code, what = (
            "MS-D105",
            f"the distance between slices varies from {steps.min():.4g} to {steps.max():.4g} mm, most {where}",
        )
    mend = "export the series again, or accept linear interpolation with --allow-gaps"
    return GeometryError(code, what, file=folder, mend=mend)


def _size_error(series: Series, options: ReadOptions) -> InputError | None:
    voxels = int(np.prod(series.shape or (0,)))
    if voxels <= options.max_voxels:
        return None
    return InputError(
        "MS-D118",
        f"{' x '.join(map(str, series.shape or ()))} = {voxels} voxels, more than the limit of {options.max_voxels}",
        file=series.files[0].parent,
        mend=f"if that is right, raise the limit: --max-voxels {voxels}",
    )


def _strict_error(series: Series) -> InputError | None:
    """The first warning as an error."""
    for decision in series.decisions:
        if decision.warning:
            mend = "read it without --strict to accept this"
            return InputError(decision.code, decision.message, file=series.files[0].parent, mend=mend)
    return None


def _with_selectors(found: list[list[Series]]) -> list[Series]:
    """SeriesNumber where that names one series, else its UID; `.k` (`:k` after a UID) where a series splits."""
    numbers = [group[0].number for group in found]
    out = []
    for group in found:
        number = group[0].number
        named = number is not None and numbers.count(number) == 1
        base, joint = (str(number), ".") if named else (group[0].uid or "none", ":")
        for n, series in enumerate(group, start=1):
            out.append(replace(series, selector=base if len(group) == 1 else f"{base}{joint}{n}"))
    return out
