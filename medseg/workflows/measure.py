"""What is in a label map: voxels and mL of every structure, and what a reader should look at twice."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.labels import LabelTable
from medseg.workflows.doubt import Doubt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from medseg.labels import Label
    from medseg.volume import Volume

EMPTY = "empty"
EDGE = "touches the edge of the image"
UNKNOWN = "not in the bundle's label table"
RANGE = "outside the training range of volume"

#: Columns of measurements.csv, and after `case` of summary.csv.
#: How a result stands to the bundle's training data: inside, outside, or the bundle does not say what it was.
MARKS = ("no", "yes", "not declared")
DOUBT = ("volume_sd_ml", "entropy_inside", "entropy_boundary", "agreement", "predicted_dice")
COLUMNS = ("structure", "value", "voxels", "volume_ml", *DOUBT, "flags", "outside_domain")
#: The same of a bundle that finds instances.
INSTANCE_COLUMNS = ("structure", "value", "count", *COLUMNS[2:])


@dataclass(frozen=True)
class Measurement:
    """One structure of one label map.

    Args:
        structure: its name in the label table.
        value: its number in the label map.
        voxels: how many voxels bear it; for a nested region, all voxels of the values it contains.
        volume_ml: `voxels` times the volume of one voxel, mL.
        flags: what deserves a second look, in words.
        doubt: what several samples say of it; None where there were none.
        count: how many instances of it there are; None where these are not told apart.
    """

    structure: str
    value: int
    voxels: int
    volume_ml: float
    flags: tuple[str, ...] = ()
    doubt: Doubt | None = None
    count: int | None = None

    def row(self, *, outside_domain: str) -> dict[str, object]:
        """The measurement as one row of a table; `outside_domain` is one of `MARKS`.

        Keys are as in `COLUMNS`, or `INSTANCE_COLUMNS` where instances were counted.
        """
        return {
            "structure": self.structure,
            "value": self.value,
            **({} if self.count is None else {"count": self.count}),
            "voxels": self.voxels,
            "volume_ml": round(self.volume_ml, 6),
            **{key: _shown(getattr(self.doubt, key, nan)) for key in DOUBT},
            "flags": "; ".join(self.flags),
            "outside_domain": outside_domain,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Measurement:
        """Read `row`'s data."""
        flags = tuple(flag for flag in str(row["flags"]).split("; ") if flag)
        told = {key: nan if row.get(key, "") == "" else float(row[key]) for key in DOUBT}
        doubt = None if all(isnan(value) for value in told.values()) else Doubt(**told)
        count = None if row.get("count", "") in ("", None) else int(row["count"])
        voxels, volume_ml = int(row["voxels"]), float(row["volume_ml"])
        return cls(str(row["structure"]), int(row["value"]), voxels, volume_ml, flags, doubt, count)


def columns_of(*, instances: bool) -> tuple[str, ...]:
    """Columns of measurements.csv, for a bundle that finds instances or one that does not."""
    return INSTANCE_COLUMNS if instances else COLUMNS


def measure(
    segmentation: Volume,
    table: LabelTable,
    *,
    range_ml: Mapping[str, tuple[float, float]] | None = None,
    doubt: Mapping[str, Doubt] | None = None,
    flagged: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Measurement, ...]:
    """Measure every structure of `table`, and any value of the map that is not in it.

    Args:
        segmentation: (I, J, K) label map of an integer type, values >= 0.
        table: the structures to measure.
        range_ml: structure -> (lowest, highest) volume that needs no second look, mL.
        doubt: structure -> what several samples say of it.
        flagged: structure -> further flags.

    Returns:
        One measurement a structure in the table's order, then one an unknown value.
    """
    labels = segmentation.array
    counts = _counts(labels)
    at_edge = {value for face in _faces(labels) for value in _counts(face) if value}
    strangers = LabelTable.from_values(v for v in counts if v and v not in _known(table))
    rows = []
    for label in (*table, *strangers):
        values = _values(label)
        voxels = sum(counts.get(v, 0) for v in values)
        volume_ml = voxels * segmentation.grid.voxel_ml
        flags = []
        if not voxels:
            flags.append(EMPTY)
        if not at_edge.isdisjoint(values):
            flags.append(EDGE)
        if label.value in strangers.by_value:
            flags.append(UNKNOWN)
        if voxels and range_ml and label.name in range_ml:
            low, high = range_ml[label.name]
            flags += [RANGE] * (not low <= volume_ml <= high)
        flags += (flagged or {}).get(label.name, ())
        told = (doubt or {}).get(label.name)
        rows.append(Measurement(label.name, label.value, voxels, volume_ml, tuple(flags), told))
    return tuple(rows)


def _shown(value: float) -> float | str:
    """A number of a table; nothing where there is nothing to say."""
    return "" if isnan(value) else round(value, 6)


def _values(label: Label) -> tuple[int, ...]:
    return label.region or (label.value,)


def _known(table: LabelTable) -> set[int]:
    return {v for label in table for v in (label.value, *label.region)}


def _faces(labels: np.ndarray) -> Iterable[np.ndarray]:
    return (labels.take(index, axis) for axis in range(3) for index in (0, -1))


def _counts(labels: np.ndarray) -> dict[int, int]:
    """How many voxels bear each value that occurs."""
    if labels.dtype.itemsize <= 2 and labels.dtype.kind == "u":  # one pass and no copy
        found = np.bincount(labels.ravel(order="K"))
        return {int(v): int(found[v]) for v in np.flatnonzero(found)}
    values, found = np.unique(labels, return_counts=True)
    return {int(v): int(n) for v, n in zip(values, found, strict=True)}
