"""Several fingerprints as one, each case with the same weight."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from medseg.federated.names import canonical
from medseg.federated.stats.fingerprint import ChannelPrint, Fingerprint, Structure
from medseg.federated.stats.sketch import pooled, rounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medseg.federated.stats.fingerprint import Three
    from medseg.federated.stats.sketch import Sketch


def pool(sites: Iterable[Fingerprint]) -> Fingerprint:
    """The fingerprint of all sites together; of structures with one name (`names.canonical`) one.

    Raises:
        ValueError: no site.
    """
    every = list(sites)
    if not every:
        msg = "a pool of no site"
        raise ValueError(msg)
    modality: Counter[str] = Counter()
    for one in every:
        modality.update(one.modality)
    usual = Counter(len(one.channels) for one in every if one.cases or len(every) == 1).most_common(1)
    count = usual[0][0] if usual else len(every[0].channels)
    fitting = [one for one in every if len(one.channels) == count]
    groups: dict[str, list[tuple[Structure, Fingerprint]]] = {}
    for one in every:
        for structure in one.structures:
            groups.setdefault(canonical(structure), []).append((structure, one))
    return Fingerprint(
        cases=sum(one.cases for one in every),
        at_least=min(one.at_least for one in every),
        unreadable=sum(one.unreadable for one in every),
        modality=dict(sorted(modality.items())),
        spacing_mm=_three([one.spacing_mm for one in every]),
        extent_mm=_three([one.extent_mm for one in every]),
        channels=tuple(
            _channel([one.channels[n] for one in fitting], [one.cases for one in fitting]) for n in range(count)
        ),
        structures=tuple(_structure([structure for structure, _ in group]) for group in groups.values()),
    )


def _channel(channels: Sequence[ChannelPrint], cases: Sequence[int]) -> ChannelPrint:
    keys = dict.fromkeys(key for one in channels for key in one.numbers)
    numbers = {key: pooled([one.numbers.get(key) for one in channels]) for key in keys}
    bins = next((one.bins for one in channels if one.bins is not None), None)
    return ChannelPrint(
        channels[0].name,
        {key: sketch for key, sketch in numbers.items() if sketch is not None},
        bins,
        _mean([one.grey if one.bins == bins else () for one in channels], cases),
        _mean([one.tissue if one.bins == bins else () for one in channels], cases),
    )


def _structure(group: Sequence[Structure]) -> Structure:
    known = [one.cases for one in group if one.cases is not None]
    rights = [(one.right, one.cases) for one in group if one.right is not None and one.cases]
    weight = sum(n for _, n in rights)
    return Structure(
        group[0].name,
        group[0].value,
        sum(known) if known else None,
        pooled([one.volume_ml for one in group]),
        _three([one.offset_mm for one in group]),
        group[0].mirror,
        rounded(sum(right * n for right, n in rights) / weight, 3) if weight else None,
    )


def _three(triples: Sequence[Three | None]) -> Three | None:
    held = [three for three in triples if three is not None]
    axes: list[Sketch] = [one for n in range(3) if (one := pooled([three[n] for three in held])) is not None]
    return (axes[0], axes[1], axes[2]) if len(axes) == 3 else None


def _mean(histograms: Sequence[tuple[float, ...]], cases: Sequence[int]) -> tuple[float, ...]:
    held = [(np.array(one), n) for one, n in zip(histograms, cases, strict=True) if one and n]
    if not held:
        return ()
    total = sum(n for _, n in held)
    return tuple(rounded(x) for x in np.sum([one * n for one, n in held], axis=0) / total)
