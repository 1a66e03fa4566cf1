"""Every case of a site read once, for its fingerprint. What stands here is of single cases and never leaves the site.

Cases are found, read and checked as `medseg plan` does, and described by the numbers of which a bundle's domain is made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.bundle.intensity import describe
from medseg.errors import MedsegError
from medseg.labels import LabelTable
from medseg.readers.cases.channels import load_case
from medseg.readers.cases.pairing import load_label
from medseg.training.plan.classes import classes_of, ignore_value, known_values
from medseg.training.plan.look import look_at
from medseg.training.plan.own_names import naming_problems, own_names
from medseg.training.plan.problems import Problem, problem_of
from medseg.training.plan.sources import find_source

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from medseg.training.plan.look import Facts
    from medseg.training.plan.sources import Source
    from medseg.volume import Volume

#: Voxels of a scan, and of its labelled tissue, whose grey values are kept for histograms, evenly spread.
SAMPLES = 10_000
#: Quantiles between which a scan's grey values lie, as a planned bundle clips them.
LOW, HIGH = 0.005, 0.995
#: The body is what is brighter than the middle between these quantiles: the table of a CT is hollow, air is dark.
_DARK, _BRIGHT = 0.02, 0.98

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Channel:
    """One channel of one scan.

    Args:
        numbers: `medseg.bundle.intensity.describe`'s where the scan is large enough, and `level` (median of what is
            not 0), `low` and `high` (the quantiles `LOW` and `HIGH`), `zero` (where the value 0 lies between these two,
            0 at `low` and 1 at `high`), `tissue` (where the median of labelled voxels lies), `least`, and `zeros`, the
            share of voxels that are 0.
        grey: up to `SAMPLES` grey values.
        tissue: up to `SAMPLES` grey values under labels.
    """

    numbers: Mapping[str, float]
    grey: np.ndarray
    tissue: np.ndarray


@dataclass(frozen=True)
class Seen:
    """One case.

    Args:
        facts: as `medseg plan` knows it.
        channels: of its scan.
        offset_mm: structure -> its centre of mass from that of the body, along the patient's R, A and S.
        volume_ml: structure -> volume.
    """

    facts: Facts
    channels: tuple[Channel, ...]
    offset_mm: Mapping[str, Triple]
    volume_ml: Mapping[str, float]


@dataclass(frozen=True)
class Survey:
    """All cases of a site.

    Args:
        channels: their names.
        table: what the label values mean.
        seen: the sound cases.
        problems: what is wrong with the others, with their files: for the site alone.
    """

    channels: tuple[str, ...]
    table: LabelTable
    seen: tuple[Seen, ...]
    problems: tuple[Problem, ...]


def survey(
    data: Path,
    channels: Sequence[str] = (),
    *,
    labels: LabelTable | None = None,
    cases: Collection[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Read a site's cases.

    Args:
        data: whatever `medseg plan` understands.
        channels: names of the channels; () takes what the dataset says.
        labels: what the label values mean where neither dataset.json nor the label maps say; None: nothing does.
        cases: names of those that count; None: all.
        progress: called with (cases read, cases in all).

    Raises:
        InputError: MS-T103 there is no such dataset, MS-T150 labels that no bundle can hold.
    """
    source = find_source(data, channels)
    known, ignore = known_values(source.said), ignore_value(source.said)
    chosen = [case for case in source.cases if cases is None or case.name in cases]
    problems = list(source.problems)
    found: list[tuple[Facts, tuple[Channel, ...], dict[int, tuple[float, Triple]]]] = []
    for n, case in enumerate(chosen, 1):
        facts, wrong = look_at(case, source.channels, known, allow_empty=True, ignore=ignore)
        problems += wrong
        if facts is not None:
            try:
                image = load_case(case, source.channels)
                given = load_label(case, image)
            except MedsegError as error:  # it was read a moment ago: a disk that fails, or somebody moves files
                problems.append(problem_of(error, case.name, case.label))
            else:
                label = given.array if ignore is None else np.where(given.array == ignore, 0, given.array)
                found.append((facts, _channels(image, label), _places(image, label)))
        if progress is not None:
            progress(n, len(chosen))
    named = naming_problems([facts for facts, _, _ in found], {case.name: case for case in chosen})
    problems += [] if known else [replace(problem, note=True) for problem in named]  # each of its files can be read
    held = {value for facts, _, _ in found for value in facts.values}
    table = _table(source, held, own_names(facts.names for facts, _, _ in found), labels)
    seen = tuple(Seen(facts, grey, *_named(places, table)) for facts, grey, places in found)
    return Survey(source.channels, table, seen, tuple(problems))


def _table(source: Source, held: Collection[int], names: Mapping[int, str], labels: LabelTable | None) -> LabelTable:
    """By dataset.json, else by the label maps' own names, else by the bundle's, else by values."""
    if known_values(source.said) or names or (labels is None and held):
        return classes_of(source.said, held, source.path, names).table
    return labels or LabelTable(())


def _channels(image: Volume, label: np.ndarray) -> tuple[Channel, ...]:
    array = image.array if image.array.ndim == 4 else image.array[None]
    return tuple(_channel(channel, label > 0) for channel in array)


def _channel(image: np.ndarray, labelled: np.ndarray) -> Channel:
    grey, tissue = _some(image.ravel()), _some(image[labelled])
    low, high = (float(x) for x in np.quantile(grey, [LOW, HIGH]))
    signal = grey[grey != 0]
    numbers = dict(describe(image) or {})
    numbers |= {"level": float(np.median(signal)) if signal.size else 0.0, "low": low, "high": high}
    numbers |= {"least": float(image.min()), "zeros": float(np.mean(image == 0))}
    if high > low:
        numbers["zero"] = -low / (high - low)
        if tissue.size:
            numbers["tissue"] = float((np.median(tissue) - low) / (high - low))
    return Channel(numbers, grey, tissue)


def _some(values: np.ndarray) -> np.ndarray:
    return values[:: max(1, len(values) // SAMPLES)][:SAMPLES].astype(np.float32)


def _places(image: Volume, label: np.ndarray) -> dict[int, tuple[float, Triple]]:
    """Label value -> its volume in mL, and its centre of mass from that of the body, RAS mm."""
    centre = _body_mm(image)
    held = np.flatnonzero(label)
    values = label.ravel()[held].astype(np.int64)
    counts = np.bincount(values)
    index = np.stack(
        [np.bincount(values, axis) / np.maximum(counts, 1) for axis in np.unravel_index(held, label.shape)]
    )
    mm = image.grid.to_world(index.T) - centre
    return {
        int(v): (float(counts[v]) * image.grid.voxel_ml, (float(mm[v, 0]), float(mm[v, 1]), float(mm[v, 2])))
        for v in np.flatnonzero(counts)
    }


def _body_mm(image: Volume) -> np.ndarray:
    """(3,) RAS mm of the centre of mass of what is bright in the first channel; else of the whole scan."""
    first = image.array if image.array.ndim == 3 else image.array[0]
    stride = max(1, round((first.size / 1e6) ** (1 / 3)))
    coarse = first[::stride, ::stride, ::stride]
    dark, bright = np.quantile(coarse, [_DARK, _BRIGHT])
    index = np.argwhere(coarse > (dark + bright) / 2)
    return image.grid.to_world(index.mean(0) * stride if len(index) else (np.array(first.shape) - 1) / 2)


def _named(places: Mapping[int, tuple[float, Triple]], table: LabelTable) -> tuple[dict[str, Triple], dict[str, float]]:
    """By the names of structures; a region is all its parts."""
    offsets: dict[str, Triple] = {}
    volumes: dict[str, float] = {}
    for row in table:
        parts = [places[value] for value in row.region or (row.value,) if value in places]
        if parts:
            ml = np.array([part[0] for part in parts])
            x, y, z = (ml @ np.array([part[1] for part in parts]) / ml.sum()).tolist()
            offsets[row.name], volumes[row.name] = (x, y, z), float(ml.sum())
    return offsets, volumes
