"""One table of labels for sites that label different structures, and what each site has of it.

A structure that only some sites label is learnt from these alone: at the others its voxels count as "background or that"
(`medseg.losses.MarginalLoss`). So each site says which structures it labels, `labels_present`, and which value of its label
maps means which of the table.

Worked example: one site labels liver 1 and spleen 2, another spleen 1. The table is liver 1, spleen 2; the second site turns
1 into 2 and has `labels_present: [2]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.federated.names import canonical, unnamed
from medseg.labels import LabelTable
from medseg.readers.open import read
from medseg.training.plan.classes import classes_of, known_values
from medseg.training.plan.own_names import own_names
from medseg.training.plan.sources import find_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.federated.stats.fingerprint import Fingerprint

#: So many label maps are read for the names in them.
_LOOKED_AT = 20


@dataclass(frozen=True)
class LabelUnion:
    """All structures that a federation labels.

    Args:
        table: value -> structure.
        values: site -> value in its label maps -> value in the table.
        present: site -> the values of the table that it labels.
    """

    table: LabelTable
    values: Mapping[str, Mapping[int, int]]
    present: Mapping[str, tuple[int, ...]]

    @property
    def partial(self) -> bool:
        """Whether a site leaves out structures that others label."""
        return any(len(found) < len(self.table) for found in self.present.values())

    @property
    def renumbered(self) -> bool:
        """Whether a site's label maps hold other values than the table."""
        return any(a != b for values in self.values.values() for a, b in values.items())

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        sites = {
            site: {"values": {str(a): b for a, b in self.values[site].items()}, "labels_present": list(present)}
            for site, present in self.present.items()
        }
        return {"labels": self.table.to_json(), "sites": sites}


def union_of(sites: Mapping[str, Fingerprint], labels: LabelTable | None = None) -> LabelUnion:
    """The union of what sites label: first what `labels` (a bundle's) names, then others in the order in which they come up.

    Structures with one name (`names.canonical`) are one, whatever their values; what is only a value, `label 3`, is what the
    bundle or the first site that names it calls it. A structure that no case of a site has is not labelled there.

    Raises:
        InputError: MS-T150 more structures than label maps can hold.
    """
    known = labels or LabelTable(())
    by_value = {row.value: canonical(row) for row in known if not unnamed(row.name)}
    for one in sites.values():
        for row in one.structures:
            if not unnamed(row.name):
                by_value.setdefault(row.value, canonical(row))
    order = {canonical(row): row.value for row in known}
    names = {canonical(row): row.name for row in known}
    values: dict[str, dict[int, int]] = {}
    for site, one in sites.items():
        values[site] = {}
        for row in one.structures:
            key = by_value.get(row.value, canonical(row)) if unnamed(row.name) else canonical(row)
            if row.cases != 0:
                values[site][row.value] = order.setdefault(key, max(order.values(), default=0) + 1)
                if unnamed(names.get(key, "label 0")):
                    names[key] = row.name
    present = {site: tuple(sorted(set(mine.values()))) for site, mine in values.items()}
    return LabelUnion(_table(known, {names[key]: value for key, value in order.items()}), values, present)


def _table(known: LabelTable, named: Mapping[str, int]) -> LabelTable:
    """The bundle's own rows as they are, and new ones with the partner on the other side that their names say."""
    if not named:
        return known
    made = classes_of({"labels": dict(named)}, named.values(), Path("agreed.json")).table
    return LabelTable(tuple(known.by_value.get(row.value, row) for row in made))


def site_labels(data: Path, labels: LabelTable, present: tuple[int, ...] | None = None) -> dict[str, Any]:
    """What a site adds to train.json of a bundle for partial labels (`agreed_bundle`): overrides in plain values.

    Names stand in dataset.json, else in the label maps themselves (the first 20 are read); without any, values are those of
    the bundle. A structure that the bundle does not have becomes background.

    Args:
        data: the site's cases.
        labels: the bundle's.
        present: values of the bundle's that this site labels; None: those that are named there, or all.

    Raises:
        InputError: MS-T103 there is no such dataset, MS-T150 a dataset.json whose labels cannot be those of a bundle, and
            what reading a label map refuses.
    """
    source = find_source(data)
    known = known_values(source.said)
    named = classes_of(source.said, known, data).table if known else None
    if named is None:
        tables = [read(case.label).labels or () for case in source.cases[:_LOOKED_AT] if case.label is not None]
        said = own_names({row.value: row.name for row in table} for table in tables)
        named = classes_of({}, said, data, said).table if said else None
    own = {row.value: canonical(row) for row in named or ()}
    place = {canonical(row): row.value for row in labels}
    values = {value: place.get(key, 0) for value, key in own.items()}
    if present is None:
        present = tuple(sorted({v for v in values.values() if v})) if own else tuple(labels.by_value)
    return {
        "labels_present": list(present),
        "site_values": [0, *values],
        "union_values": [0, *values.values()],
    }
