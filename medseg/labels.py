"""What the numbers in a label map mean: value <-> name <-> colour <-> coded concept, and left/right pairs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Paul Tol's "bright" scheme: distinguishable by colour-blind readers.
PALETTE = (
    (68, 119, 170),
    (238, 102, 119),
    (34, 136, 51),
    (204, 187, 68),
    (102, 204, 238),
    (170, 51, 119),
    (255, 140, 0),
)


@dataclass(frozen=True)
class Code:
    """A coded concept: scheme designator, value and meaning, e.g. ('SCT', '10200004', 'Liver')."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Label:
    """One structure.

    Args:
        value: the number in the label map, >= 1 (0 is background).
        name: unique within a table.
        colour: (red, green, blue), 0-255.
        category: coded category, e.g. SCT 123037004 "Anatomical Structure".
        type: coded type, e.g. SCT 10200004 "Liver".
        modifier: coded modifier, usually laterality.
        mirror: name of the paired structure on the other side, when there is one.
        region: label values that this structure contains, when labels are nested (whole tumour = 1, 2, 3);
            empty for a plain label.
    """

    value: int
    name: str
    colour: tuple[int, int, int]
    category: Code | None = None
    type: Code | None = None
    modifier: Code | None = None
    mirror: str | None = None
    region: tuple[int, ...] = ()


@dataclass(frozen=True)
class LabelTable:
    """The structures of a label map, ordered by value."""

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(sorted(self.labels, key=lambda label: label.value)))
        for what, found in (("value", [str(x.value) for x in self]), ("name", [x.name for x in self])):
            twice = sorted({x for x in found if found.count(x) > 1})
            if twice:
                msg = f"each label {what} stands once in a table, repeated: {', '.join(twice)}"
                raise ValueError(msg)
        for label in self:
            if label.value < 1:
                msg = f"label values start at 1 (0 is background), got {label.value} for {label.name!r}"
                raise ValueError(msg)
            if label.mirror is not None and label.mirror not in self.by_name:
                msg = f"{label.name!r} names {label.mirror!r} as its mirror, which is not in the table"
                raise ValueError(msg)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def by_value(self) -> dict[int, Label]:
        """Value -> Label."""
        return {label.value: label for label in self.labels}

    @cached_property
    def by_name(self) -> dict[str, Label]:
        """Name -> Label."""
        return {label.name: label for label in self.labels}

    def to_json(self) -> list[dict]:
        """The table as plain data, as it stands in a bundle's configs; `from_json` reads it back."""
        return [_label_to_json(label) for label in self.labels]

    @classmethod
    def from_json(cls, rows: Iterable[Mapping]) -> LabelTable:
        """Read rows of `{"value", "name", ["colour", "category", "type", "modifier", "mirror", "region"]}`."""
        return cls(tuple(_label_from_json(row, index) for index, row in enumerate(rows)))

    @classmethod
    def from_names(cls, names: Iterable[str]) -> LabelTable:
        """A table of values 1, 2, ... with palette colours and no codes."""
        return cls.from_json({"value": v, "name": name} for v, name in enumerate(names, 1))

    @classmethod
    def from_values(cls, values: Iterable[int]) -> LabelTable:
        """A table for a label map that says nothing about its values: 'label 1', 'label 5', ..."""
        return cls.from_json({"value": int(v), "name": f"label {int(v)}"} for v in values if int(v) > 0)


def _label_to_json(label: Label) -> dict:
    row: dict = {"value": label.value, "name": label.name, "colour": list(label.colour)}
    for key in ("category", "type", "modifier"):
        code: Code | None = getattr(label, key)
        if code is not None:
            row[key] = [code.scheme, code.value, code.meaning]
    if label.mirror is not None:
        row["mirror"] = label.mirror
    if label.region:
        row["region"] = list(label.region)
    return row


def _label_from_json(row: Mapping, index: int) -> Label:
    codes = {key: Code(*row[key]) for key in ("category", "type", "modifier") if row.get(key)}
    red, green, blue = row.get("colour") or PALETTE[index % len(PALETTE)]
    return Label(
        value=int(row["value"]),
        name=str(row["name"]),
        colour=(int(red), int(green), int(blue)),
        mirror=row.get("mirror"),
        region=tuple(int(v) for v in row.get("region", ())),
        **codes,
    )
