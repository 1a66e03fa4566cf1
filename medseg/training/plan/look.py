"""One case, read once: what is wrong with it, and the numbers that the plan is made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import find_objects

from medseg.errors import MedsegError
from medseg.geometry import reorientation
from medseg.readers.cases.channels import load_case
from medseg.readers.cases.pairing import load_label, read_label, whole_numbers
from medseg.readers.options import ReadOptions
from medseg.training.plan.problems import Problem, problem_of
from medseg.training.plan.shape import Form, form_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case
    from medseg.volume import Volume

#: Voxels of the foreground whose grey values are kept of a case, evenly spread.
SAMPLES = 5000
_SHOWN = 5


@dataclass(frozen=True)
class Grey:
    """Grey values of one channel of one case.

    Args:
        low: the least value.
        high: the greatest.
        zeros: share of voxels that are exactly 0.
        foreground: up to `SAMPLES` values under labels.
    """

    low: float
    high: float
    zeros: float
    foreground: np.ndarray


@dataclass(frozen=True)
class Facts:
    """What one sound case is like, along the patient's R-L, A-P and S-I axes.

    Args:
        name: of the case.
        shape: voxels.
        spacing_mm: of them.
        grey: one a channel.
        forms: label value -> its form; of instance maps id -> form.
        digest: of the grey values, equal for equal images.
        modality: DICOM's term where the file says it.
        labelled_mm: edges of the box around all that is labelled; None where nothing is.
        names: value -> name, of the values that it holds and its label map itself names.
        ignored: share of its voxels that the label map marks as unknown; forms and grey values are of the others.
    """

    name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    grey: tuple[Grey, ...]
    forms: Mapping[int, Form]
    digest: str
    modality: str | None = None
    labelled_mm: tuple[float, float, float] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    ignored: float = 0.0

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Edge to edge."""
        x, y, z = (n * mm for n, mm in zip(self.shape, self.spacing_mm, strict=True))
        return x, y, z

    @property
    def values(self) -> frozenset[int]:
        """Label values in it."""
        return frozenset(self.forms)


def look_at(
    case: Case,
    channels: Sequence[str],
    known: Collection[int] = (),
    *,
    allow_empty: bool = False,
    ignore: int | None = None,
) -> tuple[Facts | None, list[Problem]]:
    """Read a case's image and label map.

    Args:
        case: with a label map.
        channels: their names.
        known: the label values that dataset.json names; () accepts any.
        allow_empty: a label map without a structure is sound.
        ignore: the value of voxels that count nowhere; None: there is none.

    Returns:
        Its facts, None where a fault keeps it from training; and everything that is wrong with it.
    """
    problems: list[Problem] = []
    image = label = None
    names: dict[int, str] = {}
    try:
        image = load_case(case, channels)
    except MedsegError as error:
        problems.append(problem_of(error, case.name, case.images[0] if case.images else None))
    try:
        if image is None:
            label = _map(case.label, image)
        else:
            given = load_label(case, image)
            label, names = given.array, {row.value: row.name for row in given.labels or ()}
    except MedsegError as error:
        problems.append(problem_of(error, case.name, case.label))
    if image is not None:
        problems += _constant(image, case, channels)
    ignored = 0.0
    if label is not None and ignore is not None:
        unknown = label == ignore
        ignored, label = float(unknown.mean()), np.where(unknown, 0, label).astype(label.dtype)
    if label is not None:
        problems += value_problems(label, case, known, allow_empty=allow_empty)
    if image is None or label is None or any(not problem.note for problem in problems):
        return None, problems
    facts = _facts(case.name, image, label)
    names = {value: names[value] for value in sorted(facts.values & names.keys())}
    return replace(facts, ignored=ignored, names=names), problems


def _map(path: Path | None, image: Volume | None) -> np.ndarray | None:
    """A label map by itself, its image being unreadable."""
    if path is None:
        return None
    return whole_numbers(read_label(path, image, ReadOptions()).array, path)


def _constant(image: Volume, case: Case, channels: Sequence[str]) -> list[Problem]:
    found = []
    array = image.array if image.array.ndim == 4 else image.array[None]
    for number, channel in enumerate(array):
        if channel.size and channel.min() == channel.max():
            file = str(case.images[number if len(case.images) == len(array) else 0])
            what = f"{channels[number]} is {channel.flat[0]:g} everywhere"
            found.append(Problem("MS-T148", what, file, "export the image again, or take the case out", case.name))
    return found


def value_problems(label: np.ndarray, case: Case, known: Collection[int], *, allow_empty: bool) -> list[Problem]:
    """A label map without a structure, or with values that dataset.json does not name; () names any."""
    values, counts = np.unique(label, return_counts=True)
    held = {int(v): int(n) for v, n in zip(values, counts, strict=True) if v}
    file = str(case.label)
    if not held:
        what = "the label map is empty: no voxel is labelled"
        mend = "label it, take it out, or say --allow-empty where cases without any structure are meant"
        return [Problem("MS-T144", what, file, mend, case.name, note=allow_empty)]
    strange = {value: n for value, n in held.items() if known and value not in known}
    if not strange:
        return []
    shown = ", ".join(f"{value} ({n} voxels)" for value, n in list(strange.items())[:_SHOWN])
    what = f"label values that dataset.json does not name: {shown}; it names {', '.join(map(str, sorted(known)))}"
    return [
        Problem("MS-T143", what, file, "name them under labels in dataset.json, or set these voxels to 0", case.name)
    ]


def _facts(name: str, image: Volume, label: np.ndarray) -> Facts:
    turn = reorientation(image.grid, "RAS")
    grid = turn.apply_grid(image.grid)
    array = turn.apply(image.array if image.array.ndim == 4 else image.array[None])
    labels = turn.apply(label)
    inside = labels != 0
    grey = tuple(_grey(channel, inside) for channel in array)
    digest = hashlib.sha256(str(array.shape).encode())
    for channel in array:
        digest.update(np.ascontiguousarray(channel, np.float32).tobytes())
    return Facts(
        name,
        grid.shape,
        grid.spacing_mm,
        grey,
        _forms(labels, grid.spacing_mm),
        digest.hexdigest(),
        image.source.modality,
        _labelled_mm(inside, grid.spacing_mm),
    )


def _labelled_mm(inside: np.ndarray, spacing_mm: Sequence[float]) -> tuple[float, float, float] | None:
    """Edges of the box around a mask."""
    (box,) = find_objects(inside.astype(np.uint8)) or [None]
    if box is None:
        return None
    x, y, z = (float((side.stop - side.start) * mm) for side, mm in zip(box, spacing_mm, strict=True))
    return x, y, z


def _grey(channel: np.ndarray, inside: np.ndarray) -> Grey:
    held = channel[inside]
    step = max(1, len(held) // SAMPLES)
    sample = held[::step][:SAMPLES].astype(np.float32)
    return Grey(float(channel.min()), float(channel.max()), float(np.mean(channel == 0)), sample)


def _forms(labels: np.ndarray, spacing_mm: Sequence[float]) -> dict[int, Form]:
    """Every value's form, in a box around it."""
    out = {}
    boxes = find_objects(labels.astype(np.int32))
    for value, box in enumerate(boxes, 1):
        if box is not None:
            out[value] = form_of(labels[box] == value, spacing_mm)
    return out
