"""The instances of one case on the image's own grid: from a map of ids and what the network found to rows of a table.

Boxes, centres and volumes are measured in the map as it is written, after it came back from the network's grid; scores
and classes are the network's. An instance of which the image's grid shows no voxel (it is smaller than a voxel there, or
surer ones cover it) stays in the list, with 0 voxels and the network's box and centre: something was found there, and
dropping small ones in silence is how lesions are missed. It does not count in measurements.csv. Classes without instances
(stuff.py) fill the class map where no instance lies, and have no count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medseg.boxes.convention import boxes_of_instances, centres, cut_by_border, to_mm
from medseg.labels import PALETTE, Label, LabelTable
from medseg.reports.instance_colours import instance_table
from medseg.workflows.instance_row import HIDDEN, Instance

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medseg.geometry import Grid
    from medseg.inferers.instances.found import Instances
    from medseg.volume import Volume
    from medseg.workflows.instance_row import Agreed
    from medseg.workflows.measure import Measurement
    from medseg.workflows.stuff import Stuff

SCHEMA = "medseg-instances/1"
#: Beyond so many, viewers show the classes: label maps of theirs hold no more.
MOST_SHOWN = 65535


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
