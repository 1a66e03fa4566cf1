"""The domain of a bundle that several sites train, from what they tell of their cases.

`medseg.bundle.domain` holds least and greatest values over training cases, which belong to one case each; from fingerprints
come the 5 and 95 % quantiles, outermost of all sites. The margins that `medseg predict` grants are far wider.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.bundle.domain import Domain
from medseg.bundle.intensity import FORM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.federated.stats.fingerprint import Fingerprint, Three
    from medseg.federated.stats.sketch import Sketch

_NUMBERS = ("floor", *FORM)


def domain_of_sites(sites: Sequence[Fingerprint]) -> Domain | None:
    """The domain of all sites' cases; None where they do not tell enough: no site with cases, or other channels."""
    held = [one for one in sites if one.cases and one.spacing_mm is not None and one.extent_mm is not None]
    if not held or len({len(one.channels) for one in held}) != 1:
        return None
    numbers = [[channel.numbers for channel in one.channels] for one in held]
    if any(key not in channel for site in numbers for channel in site for key in _NUMBERS):
        return None
    everywhere = set.intersection(*({row.name for row in one.structures if row.cases == one.cases} for one in held))
    volumes = {
        name: _span([s for one in held if (s := one.by_name[name].volume_ml) is not None]) for name in everywhere
    }
    return Domain(
        modality=tuple(sorted({term for one in held for term in one.modality})),
        anatomy="as the cases of the sites that trained it",
        cases=sum(one.cases for one in held),
        extent_mm=_three([one.extent_mm for one in held if one.extent_mm is not None]),
        spacing_mm=_three([one.spacing_mm for one in held if one.spacing_mm is not None]),
        intensity=tuple(
            {key: _span([site[n][key] for site in numbers]) for key in _NUMBERS} for n in range(len(numbers[0]))
        ),
        volume_ml=dict(sorted(volumes.items())),
    )


def _span(sketches: Sequence[Sketch]) -> tuple[float, float]:
    return min(one.values[0] for one in sketches), max(one.values[-1] for one in sketches)


def _three(triples: Sequence[Three]) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    x, y, z = (_span([three[n] for three in triples]) for n in range(3))
    return x, y, z
