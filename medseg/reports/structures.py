"""The structures of one case: a table whose names lead to the place in the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medseg.labels import LabelTable
from medseg.reports.markup import row, table, text
from medseg.reports.numbering import numbered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from medseg.labels import Label
    from medseg.reports.case_view import CaseView

#: A stranger to a label table is white, as on the other pictures; without a table all have colours of the palette.
_STRANGER = (255, 255, 255)


@dataclass(frozen=True)
class Structure:
    """A structure as a page shows it.

    Args:
        name: in the label table, or 'label N'.
        values: label values that make it up.
        colour: (red, green, blue), 0-255.
        place: RAS mm to look at, None where it is empty: where the model is least sure, else inside near its centre.
        row: its row of measurements.csv, empty where there is none.
    """

    name: str
    values: tuple[int, ...]
    colour: tuple[int, int, int]
    place: tuple[float, float, float] | None
    row: Mapping[str, object]


def structures_of(view: CaseView) -> list[Structure]:
    """Every structure once: those of the label table, then what else the label map and the rows hold."""
    places = _Places(view)
    present = tuple(places.boxes)
    named = view.segmentation.labels or LabelTable(())
    covered = {v for label in named for v in (label.value, *label.region)}
    strangers = LabelTable.from_values(v for v in present if v not in covered)
    by_value = {_integer(r.get("value")): r for r in view.rows}
    out = []
    for label in (*named, *strangers):
        values = label.region or (label.value,)
        colour = _STRANGER if named.labels and label not in named.labels else label.colour
        out.append(Structure(_name(label, by_value), values, colour, places.of(values), by_value.pop(label.value, {})))
    left = (r for r in by_value.values() if r.get("structure"))
    out += [Structure(str(r["structure"]), (), _STRANGER, None, r) for r in left]
    return out


def structure_table(structures: Sequence[Structure], *, with_maps: bool) -> str:
    """The table; the scripts of the page find a structure's button and tick box by its number.

    Args:
        structures: in the order of the page's data.
        with_maps: whether the places lead to where the model is least sure.
    """
    optional = [c for c in _COLUMNS if any(c.value(s.row) for s in structures)]
    heads: list[str | tuple[str, str]] = ["Structure", *(("num", c.head) for c in optional)]
    flagged = any(s.row.get("flags") for s in structures)
    heads += ["Look at"] if flagged else []
    rows = []
    for number, s in enumerate(structures):
        cells: list[str | tuple[str, str, str]] = [("num", c.label, c.value(s.row) or "–") for c in optional]
        cells += [("flags", "Look at", _flags(s.row.get("flags")))] if flagged else []
        rows.append(row(_head(s, number, with_maps=with_maps), cells))
    return table("Structures found", heads, rows, kind="structures")


def _head(s: Structure, number: int, *, with_maps: bool) -> str:
    red, green, blue = s.colour
    dot = f'<span class="swatch" style="background:rgb({red},{green},{blue})" aria-hidden="true"></span>'
    name = text(s.name)
    if s.place is None:
        return f'<span class="structure">{dot}<span>{name}</span></span>'
    goes = "Go to where the model is least sure of it" if with_maps else "Go to it"
    return (
        f'<span class="structure"><input type="checkbox" checked disabled data-show="{number}" aria-label="Show {name}">{dot}'
        f'<button type="button" class="jump" disabled data-jump="{number}" title="{goes}">{name}</button></span>'
    )


def _flags(flags: object) -> str:
    return "".join(f'<span class="flag">{text(f)}</span>' for f in str(flags or "").split("; ") if f)


@dataclass(frozen=True)
class _Column:
    head: str
    label: str
    key: str
    digits: int
    spread: str = ""

    def value(self, row: Mapping[str, object]) -> str:
        """The cell's HTML, '' where the row has no number."""
        number = _number(row.get(self.key))
        if number is None:
            return ""
        words = f"{number:,.{self.digits}f}".replace(",", "\u202f")
        sd = _number(row.get(self.spread)) if self.spread else None
        return words if sd is None else f"{words} <small>± {sd:,.{self.digits}f}</small>"


_COLUMNS = (
    _Column("Volume<small>mL</small>", "Volume, mL", "volume_ml", 2, "volume_sd_ml"),
    _Column("Score<small>of the network</small>", "Score", "score", 2),
    _Column("Found in<small>share of samples</small>", "Found in", "detection_frequency", 2),
    _Column("Entropy inside<small>mean</small>", "Entropy inside", "entropy_inside", 3),
    _Column("Entropy at boundary<small>mean</small>", "Entropy at boundary", "entropy_boundary", 3),
    _Column("Predicted Dice<small>estimate</small>", "Predicted Dice", "predicted_dice", 2),
)


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _integer(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _name(label: Label, rows: Mapping[int | None, Mapping[str, object]]) -> str:
    return str(rows.get(label.value, {}).get("structure") or label.name)


class _Places:
    """Where to look at each structure; boxes are found once for all of them."""

    def __init__(self, view: CaseView) -> None:
        self.labels = view.segmentation.array
        self.grid = view.segmentation.grid
        self.doubt = next((view.maps[key] for key in ("entropy", *view.maps) if key in view.maps), None)
        values, numbers = numbered(self.labels)
        self.boxes = dict(zip(values, ndimage.find_objects(numbers), strict=True))

    def of(self, values: Iterable[int]) -> tuple[float, float, float] | None:
        """RAS mm, None where no voxel bears any of the values."""
        boxes = [self.boxes[v] for v in values if v in self.boxes]
        if not boxes:
            return None
        box = tuple(
            slice(max(0, min(b[a].start for b in boxes) - 1), min(n, max(b[a].stop for b in boxes) + 1))
            for a, n in enumerate(self.labels.shape)
        )
        mask = np.isin(self.labels[box], tuple(values))
        x, y, z = self.grid.to_world(np.array(self._within(mask, box)) + [b.start for b in box])
        return round(float(x), 2), round(float(y), 2), round(float(z), 2)

    def _within(self, mask: np.ndarray, box: tuple[slice, ...]) -> tuple[int, ...]:
        """Index in the box: the greatest uncertainty of 3 x 3 x 3 voxels inside or next to the structure, the nearest
        to its centre of equals; without a map its voxel nearest to the centre.
        """
        voxels: np.ndarray = np.argwhere(mask)
        centre = voxels.mean(axis=0)
        if self.doubt is not None:
            local = np.asarray(
                ndimage.uniform_filter(np.nan_to_num(self.doubt[box].astype(np.float32)), 3, mode="nearest")
            )
            near = np.asarray(ndimage.binary_dilation(mask), bool)
            best = local[near].max()
            if best > 1e-4:
                voxels = np.argwhere(near & (local >= best - 1e-6))
        away = ((voxels - centre) ** 2).sum(axis=1)
        i, j, k = voxels[int(np.argmin(away))]
        return int(i), int(j), int(k)
