"""One table of labels for sites that label different structures, and what each site has of it.

A structure that only some sites label is learnt from these alone: at the others its voxels count as "background or that"
(`medseg.losses.MarginalLoss`). So each site says which structures it labels, `labels_present`, and which value of its label
maps means which of the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.federated.names import canonical, unnamed
from medseg.labels import LabelTable
from medseg.training.plan.classes import classes_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.federated.fingerprint import Fingerprint


@dataclass(frozen=True)
class LabelUnion:
    """All structures that a federation labels.

    Args:
        table: value -> structure, values 1 to N.
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

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        sites = {
            site: {"values": {str(a): b for a, b in self.values[site].items()}, "labels_present": list(present)}
            for site, present in self.present.items()
        }
        return {"labels": self.table.to_json(), "sites": sites}


def union_of(sites: Mapping[str, Fingerprint]) -> LabelUnion:
    """The union of what sites label, in the order in which their structures come up.

    Structures with one name (`names.canonical`) are one, whatever their values; what is only a value, `label 3`, is what the
    first other site calls it. A structure that a site names and that none of its cases has is not labelled there.
    """
    named: dict[int, str] = {}
    for one in sites.values():
        for row in one.structures:
            if not unnamed(row.name):
                named.setdefault(row.value, canonical(row))
    first: dict[str, str] = {}
    keys: dict[str, dict[int, str]] = {}
    for site, one in sites.items():
        keys[site] = {}
        for row in one.structures:
            key = named.get(row.value, canonical(row)) if unnamed(row.name) else canonical(row)
            if row.cases == 0:
                continue
            keys[site][row.value] = key
            if key not in first or unnamed(first[key]):
                first[key] = row.name
    order = {key: n for n, key in enumerate(first, 1)}
    known = {first[key]: n for key, n in order.items()}
    table = LabelTable(()) if not known else classes_of({"labels": known}, known.values(), Path("agreed.json")).table
    values = {site: {value: order[key] for value, key in mine.items()} for site, mine in keys.items()}
    return LabelUnion(table, values, {site: tuple(sorted(set(mine.values()))) for site, mine in values.items()})


def site_overrides(union: LabelUnion, site: str) -> dict[str, Any]:
    """What a site adds to train.json of a bundle that `agreed_bundle.write_agreed` wrote, in plain values.

    Args:
        union: of the sites.
        site: one of them.
    """
    values = union.values[site]
    return {
        "labels_present": list(union.present[site]),
        "site_values": [0, *values],
        "union_values": [0, *values.values()],
    }
