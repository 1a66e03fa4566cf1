"""The instances of one case on the image's own grid: from a map of ids and what the network found to rows of a table.

Boxes, centres and volumes are measured in the map as it is written, after it came back from the network's grid; scores
and classes are the network's. An instance of which the image's grid shows no voxel (it is smaller than a voxel there, or
surer ones cover it) stays in the list, with 0 voxels and the network's box and centre: something was found there, and
dropping small ones in silence is how lesions are missed. It does not count in measurements.csv. Classes without instances
(stuff.py) fill the class map where no instance lies, and have no count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medseg.boxes.convention import boxes_of_instances, centres, cut_by_border, to_mm
from medseg.labels import PALETTE, Label, LabelTable
from medseg.reports.instance_colours import instance_table
from medseg.workflows.measure import EDGE, Measurement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medseg.geometry import Grid
    from medseg.inferers.instances.found import Instances
    from medseg.volume import Volume
    from medseg.workflows.stuff import Stuff

SCHEMA = "medseg-instances/1"
#: Patient axes, in the order of RAS: a coordinate grows towards the right, the front, the head.
AXES = ("R-L", "A-P", "S-I")
HIDDEN = "no voxel of its own on the image's grid"
#: Beyond so many, viewers show the classes: label maps of theirs hold no more.
MOST_SHOWN = 65535


@dataclass(frozen=True)
class Agreed:
    """What several samples say of one instance; NaN where there is nothing to say.

    Args:
        samples: how many there were.
        frequency: share of them that found it, in (0, 1].
        score_mean: mean score of those.
        score_sd: and the SD.
        class_share: share of those that gave it its class.
        box_sd_mm: SD of the low and the high edge along R-L, A-P, S-I: three lows, three highs, mm.
        volume_sd_ml: SD of the volume of its mask, mL.
        mask_iou: mean IoU of the samples' masks with their mean.
        rare: found by fewer than half of the samples.
    """

    samples: int
    frequency: float
    score_mean: float
    score_sd: float
    class_share: float
    box_sd_mm: tuple[float, ...]
    volume_sd_ml: float
    mask_iou: float
    rare: bool

    def to_json(self) -> dict[str, Any]:
        """As it stands in instances.json; null for what is not defined."""
        return {
            "detection_frequency": _number(self.frequency, 4),
            "rare": self.rare,
            "score_mean": _number(self.score_mean, 6),
            "score_sd": _number(self.score_sd, 6),
            "class_share": _number(self.class_share, 4),
            "box_sd_mm": _by_axis(self.box_sd_mm),
            "volume_sd_ml": _number(self.volume_sd_ml, 6),
            "mask_iou": _number(self.mask_iou, 4),
        }


@dataclass(frozen=True)
class Instance:
    """One instance of one case.

    Args:
        id: its number in the map, by falling score.
        structure: its class in the label table.
        value: of the class in the class map.
        score: in [0, 1]; with samples their mean, 0 for those that did not find it.
        box_mm: RAS mm, three lows and three highs; encloses the outer faces of its voxels.
        centroid_mm: RAS mm, of its voxels.
        volume_ml: of its voxels, mL.
        voxels: in the map.
        cut_by_border: whether it reaches the image's border, beyond which it may go on.
        agreed: what several samples say of it; None where there were none.
    """

    id: int
    structure: str
    value: int
    score: float
    box_mm: tuple[float, ...]
    centroid_mm: tuple[float, ...]
    volume_ml: float
    voxels: int
    cut_by_border: bool
    agreed: Agreed | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """What deserves a second look, in words."""
        told = self.agreed
        rare = [] if told is None or not told.rare else [_rare(told)]
        return (*rare, *[EDGE] * self.cut_by_border, *[HIDDEN] * (not self.voxels))

    def to_json(self) -> dict[str, Any]:
        """As it stands in instances.json."""
        return {
            "id": self.id,
            "structure": self.structure,
            "value": self.value,
            "score": _number(self.score, 6),
            "box_mm": _by_axis(self.box_mm),
            "centroid_mm": [_number(x, 3) for x in self.centroid_mm],
            "volume_ml": _number(self.volume_ml, 6),
            "voxels": self.voxels,
            "cut_by_border": self.cut_by_border,
            **({} if self.agreed is None else self.agreed.to_json()),
            "flags": list(self.flags),
        }

    def row(self, *, outside_domain: str) -> dict[str, object]:
        """As viewers take it: keys as in measurements.csv, the structure is this instance."""
        told = self.agreed
        sd = None if told is None else _number(told.volume_sd_ml, 6)
        return {
            "structure": f"{self.structure} {self.id}",
            "value": self.id,
            "voxels": self.voxels,
            "volume_ml": round(self.volume_ml, 6),
            "volume_sd_ml": "" if sd is None else sd,
            "score": round(self.score, 4),
            "detection_frequency": "" if told is None else round(told.frequency, 4),
            "flags": "; ".join(self.flags),
            "outside_domain": outside_domain,
        }


@dataclass(frozen=True, eq=False)
class Placed:
    """The instances of a case.

    Args:
        ids: (I, J, K) uint16, or uint32 beyond 65535, on the image's own grid.
        rows: by falling score; that of id n is the n-th.
        classes: what the class values mean.
        stuff: classes without instances; None where the network knows none.
    """

    ids: Volume
    rows: tuple[Instance, ...]
    classes: LabelTable
    stuff: Stuff | None = None

    def class_map(self) -> Volume:
        """The map with the class value of each instance instead of its id, over stuff; (I, J, K) uint8 or uint16."""
        values = [0, *(row.value for row in self.rows)]
        table = np.asarray(values, np.uint8 if max(values) <= 255 else np.uint16)
        array = table[self.ids.array]
        if self.stuff is not None:
            np.copyto(array, self.stuff.array, where=self.stuff.array > 0)
        return replace(self.ids, array=array, labels=self.classes)

    def shown(self) -> Volume | None:
        """The map with its instances as named and coloured labels, behind them stuff; None for more than viewers take."""
        numbers = self._stuff_numbers()
        if len(self.rows) + len(numbers) > MOST_SHOWN:
            return None
        table = instance_table(((r.id, r.value) for r in self.rows), self.classes)
        if self.stuff is None or not numbers:
            return replace(self.ids, labels=table)
        array = self.ids.array.copy()
        for value, number in numbers.items():
            array[self.stuff.array == value] = number
        more = (_as_label(value, number, self.classes) for value, number in numbers.items())
        return replace(self.ids, array=array, labels=LabelTable((*table, *more)))

    def shown_rows(self, measurements: Iterable[Measurement]) -> list[Instance | Measurement]:
        """What `shown` shows, with its numbers: the instances, and measurements of stuff."""
        numbers = self._stuff_numbers()
        return [*self.rows, *(replace(m, value=numbers[m.value]) for m in measurements if m.value in numbers)]

    def _stuff_numbers(self) -> dict[int, int]:
        """Class value -> number in `shown`, behind all ids, of the stuff that is in the image."""
        there = [] if self.stuff is None else np.flatnonzero(np.bincount(self.stuff.array.ravel(order="K"))).tolist()
        return {value: n for n, value in enumerate((v for v in there if v), len(self.rows) + 1)}

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should look at."""
        hidden = sum(not row.voxels for row in self.rows)
        rare = sum(row.agreed is not None and row.agreed.rare for row in self.rows)
        said = {
            f"{hidden} of {len(self.rows)} instances have {HIDDEN}: they stand in instances.json alone": hidden > 0,
            f"{rare} of {len(self.rows)} instances were found by fewer than half of the samples": rare > 0,
            f"more than {MOST_SHOWN} instances: the views show their classes": len(self.rows) > MOST_SHOWN,
        }
        return tuple(words for words, true in said.items() if true)

    def counted(self, measurements: Iterable[Measurement]) -> tuple[Measurement, ...]:
        """Measurements of the classes, each with how many instances it has in the map and how many of them are rare.

        Stuff has no count.
        """
        return tuple(self._counted(one) for one in measurements)

    def _counted(self, one: Measurement) -> Measurement:
        if self.stuff is not None and one.value in self.stuff.values:
            return one
        mine = [row for row in self.rows if row.value == one.value and row.voxels]
        rare = sum(row.agreed is not None and row.agreed.rare for row in mine)
        more = [f"{rare} of {len(mine)} found by fewer than half of the samples"] if rare else []
        return replace(one, count=len(mine), flags=(*one.flags, *more))

    def to_json(self, **head: Any) -> dict[str, Any]:
        """The whole of instances.json; `head` comes first."""
        return {
            "schema": SCHEMA,
            **head,
            "space": "RAS mm: R-L grows towards the patient's right, A-P to the front, S-I to the head; [low, high]",
            **({} if self.stuff is None else {"stuff": [self._called(value) for value in self.stuff.values]}),
            "instances": [row.to_json() for row in self.rows],
        }

    def _called(self, value: int) -> dict[str, Any]:
        return {"structure": _name(value, self.classes), "value": value}


def place(
    ids: Volume,
    found: Instances,
    network: Grid,
    classes: LabelTable,
    agreed: Sequence[Agreed] | None = None,
    stuff: Stuff | None = None,
) -> Placed:
    """Measure every instance.

    Args:
        ids: (I, J, K) on the image's own grid; instance n of `found` has the value n + 1.
        found: by falling score, on the network's grid.
        network: that grid.
        classes: class c has the value c + 1.
        agreed: what several samples say of each, in the same order.
        stuff: on the image's own grid.

    Raises:
        ValueError: an id of which nothing was found.
    """
    seen, boxes = boxes_of_instances(torch.from_numpy(np.ascontiguousarray(ids.array)))
    if len(seen) and int(seen[-1]) > len(found):
        msg = f"the map has the id {int(seen[-1])}, and {len(found)} instances were found"
        raise ValueError(msg)
    cut = cut_by_border(boxes, ids.grid.shape).any(1).tolist()
    boxes_mm = to_mm(boxes, ids.affine).tolist()
    there = {
        n: (_measured(ids, n, box.int().tolist()), mm, bool(at_edge))
        for n, box, mm, at_edge in zip(seen.tolist(), boxes, boxes_mm, cut, strict=True)
    }
    lost_boxes = to_mm(found.boxes, network.affine).tolist()
    lost_centres = network.to_world((centres(found.boxes) - 0.5).double().numpy()) if len(found) else ()
    rows = []
    for n, (score, label) in enumerate(zip(found.scores.tolist(), found.classes.tolist(), strict=True)):
        value = label + 1
        (voxels, centroid), box, at_edge = there.get(n + 1, ((0, lost_centres[n]), lost_boxes[n], False))
        rows.append(
            Instance(
                id=n + 1,
                structure=_name(value, classes),
                value=value,
                score=float(score),
                box_mm=tuple(float(x) for x in box),
                centroid_mm=tuple(float(x) for x in centroid),
                volume_ml=voxels * ids.grid.voxel_ml,
                voxels=voxels,
                cut_by_border=at_edge,
                agreed=None if agreed is None else agreed[n],
            )
        )
    return Placed(ids, tuple(rows), classes, stuff)


def as_ids(array: np.ndarray) -> np.ndarray:
    """Whole numbers as a map of ids is stored: uint16, or uint32 where that does not hold them."""
    small = array.max(initial=0) <= np.iinfo(np.uint16).max
    return np.ascontiguousarray(array, dtype=np.uint16 if small else np.uint32)


def _measured(ids: Volume, number: int, box: Sequence[int]) -> tuple[int, np.ndarray]:
    """Voxels, and RAS mm of their centre, of one instance in its box."""
    inside = ids.array[tuple(slice(a, b) for a, b in zip(box[:3], box[3:], strict=True))] == number
    voxels = int(np.count_nonzero(inside))
    centre = []
    for axis, low in enumerate(box[:3]):
        along = inside.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.int64)
        centre.append(low + float(along @ np.arange(len(along))) / voxels)
    return voxels, ids.grid.to_world(np.array(centre))


def _as_label(value: int, number: int, classes: LabelTable) -> Label:
    of = classes.by_value.get(value)
    if of is None:
        return Label(number, _name(value, classes), PALETTE[value % len(PALETTE)])
    return Label(number, of.name, of.colour, of.category, of.type, of.modifier)


def _name(value: int, classes: LabelTable) -> str:
    return classes.by_value[value].name if value in classes.by_value else f"label {value}"


def _rare(told: Agreed) -> str:
    return f"rare: found by {round(told.frequency * told.samples)} of {told.samples} samples"


def _by_axis(edges: Sequence[float]) -> dict[str, list[float | None]]:
    return {axis: [_number(edges[n], 3), _number(edges[3 + n], 3)] for n, axis in enumerate(AXES)}


def _number(value: float, digits: int) -> float | None:
    return round(float(value), digits) + 0.0 if isfinite(value) else None
