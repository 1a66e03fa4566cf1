"""What the sites of a federation agree on once, before round 1, and what is wrong with any of them.

The rules are those of `medseg plan`: it is given as many cases as there are, with the quantiles that the sites tell of.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.federated.label_union import LabelUnion, union_of
from medseg.federated.stats.findings import Finding, differences
from medseg.federated.stats.fingerprint import SCAN_BINS, Bins
from medseg.federated.stats.fingerprint_json import to_json
from medseg.federated.stats.places import arrangement, sides
from medseg.federated.stats.pool import pool
from medseg.training.plan.look import Facts, Grey
from medseg.training.plan.normalisation import normalisation_of
from medseg.training.plan.spacing import target_spacing

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from medseg.federated.stats.fingerprint import ChannelPrint, Fingerprint, Three
    from medseg.labels import LabelTable
    from medseg.training.plan.choice import Choice

_RAW_BINS = 256
#: Of more cases so many stand for all; grey values of tissue that each of them has.
_CASES, _VALUES = 1000, 64


@dataclass(frozen=True)
class Agreement:
    """What was agreed.

    Args:
        pooled: all sites as one.
        sites: each of them. For the server and the site itself, not for the others.
        findings: what is wrong, failures first.
        spacing_mm: of the network's grid, R-L, A-P, S-I; None where too few cases were told of.
        steps: transforms that prepare grey values, as they stand in configs; () likewise, and of CT without histograms.
        choices: the reasons of both.
        union: of labels.
        held_out: sites that are tested on only.
    """

    pooled: Fingerprint
    sites: Mapping[str, Fingerprint]
    findings: tuple[Finding, ...]
    spacing_mm: tuple[float, float, float] | None
    steps: tuple[dict[str, Any], ...]
    choices: tuple[Choice, ...]
    union: LabelUnion
    held_out: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether no finding forbids training."""
        return all(one.verdict != "fail" for one in self.findings)

    def to_json(self, *, single_sites: bool = True) -> dict[str, Any]:
        """Plain data.

        Args:
            single_sites: with each site's fingerprint and what was found of it; False: what every site may see.
        """
        found: dict[str, Any] = {
            "pooled": to_json(self.pooled),
            "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm),
            "normalisation": list(self.steps),
            "choices": [asdict(choice) for choice in self.choices],
            "union": self.union.to_json(),
        }
        if single_sites:
            found["sites"] = {name: to_json(one) for name, one in self.sites.items()}
            found["held_out"] = list(self.held_out)
            found["findings"] = [asdict(one) for one in self.findings]
        return found


def agree(
    sites: Mapping[str, Fingerprint], labels: LabelTable | None = None, held_out: Collection[str] = ()
) -> Agreement:
    """Pool the fingerprints of the sites and compare each with the others.

    What is told of a site differs from more than half of the other sites; of two sites each is told of. Sides that
    contradict their names need no other site.

    Args:
        sites: name -> fingerprint.
        labels: of the bundle that is to be trained; None: there is none yet.
        held_out: sites that are tested on only: they are compared with those that train, and nothing is agreed by them.

    Raises:
        ValueError: there is no site that trains.
    """
    train = {name: one for name, one in sites.items() if name not in held_out}
    pooled = pool(train.values())
    spacing, steps, choices = None, (), ()
    held = [one for one in train.values() if one.cases]
    if held:
        facts = _facts(held, pooled)
        spacing, about_spacing = target_spacing(facts)
        choices = (about_spacing,)
        if not _is_ct(held) or all(channel.tissue for channel in pooled.channels):
            normalisation = normalisation_of(facts, [channel.name for channel in pooled.channels])
            steps, choices = normalisation.steps, (about_spacing, normalisation.choice)
    found = [one for site, own in sites.items() for one in _of_site(site, own, train)]
    found.sort(key=lambda one: ("fail", "warn", "note").index(one.verdict))
    return Agreement(
        pooled, dict(sites), tuple(found), spacing, steps, choices, union_of(train, labels), tuple(sorted(held_out))
    )


def compare(site: str, own: Fingerprint, others: Fingerprint) -> tuple[Finding, ...]:
    """What a site sees of itself: its own faults, and how it differs from the others, pooled; failures first.

    Args:
        site: its name.
        own: its fingerprint.
        others: the `pooled` of an `Agreement`, or `reference.of_bundle`.
    """
    found = [*_alone(site, own), *_against(site, own, others)]
    return tuple(sorted(found, key=lambda one: ("fail", "warn", "note").index(one.verdict)))


def bins_for(sites: Sequence[Fingerprint]) -> tuple[Bins, ...]:
    """The bins of each channel that all sites share: Hounsfield units as they are, else each scan's own scale."""
    held = [one for one in sites if one.cases]
    if not held:
        return ()
    pooled, ct = pool(held), _is_ct(held)
    found = []
    for channel in pooled.channels:
        low, high = channel.numbers.get("low"), channel.numbers.get("high")
        raw = low is not None and high is not None and low.values[0] < high.values[-1] and ct
        found.append(Bins("raw", low.values[0], high.values[-1], _RAW_BINS) if raw and low and high else SCAN_BINS)
    return tuple(found)


def _is_ct(sites: Sequence[Fingerprint]) -> bool:
    """By the rule of `medseg plan`, which asks for grey values of tissue that do not matter here."""
    some, pooled = np.arange(2, dtype=np.float32), pool(sites)
    facts = [replace(one, grey=tuple(replace(g, foreground=some) for g in one.grey)) for one in _facts(sites, pooled)]
    return normalisation_of(facts, [channel.name for channel in pooled.channels]).modality == ("CT",)


def _of_site(site: str, own: Fingerprint, sites: Mapping[str, Fingerprint]) -> list[Finding]:
    others = {name: one for name, one in sites.items() if name != site}
    found = _alone(site, own)
    if not others:
        return found
    single = [_against(site, own, one) for one in others.values()]
    counts: dict[str, int] = {}
    for topics in ({one.topic for one in findings} for findings in single):
        for topic in topics:
            counts[topic] = counts.get(topic, 0) + 1
    usual = {topic for topic, n in counts.items() if 2 * n > len(others)}
    told = _against(site, own, pool(others.values()))  # in the numbers of all the others
    told += [one for findings in single for one in findings]
    first = {one.topic: one for one in reversed(told) if one.topic in usual}
    return found + list(first.values())


def _alone(site: str, own: Fingerprint) -> list[Finding]:
    found = sides(site, own)
    if not own.cases:
        what = f"fewer than {own.at_least} sound cases: nothing is said of them"
        mend = "add cases; it can still train"
        found.append(Finding("MS-J161", "warn", site, what, mend, "few"))
    if own.unreadable:
        what = f"{own.unreadable} {'case has' if own.unreadable == 1 else 'cases have'} a fault"
        found.append(Finding("MS-J162", "warn", site, what, "at the site: medseg plan DATA names each", "unreadable"))
    return found


def _against(site: str, own: Fingerprint, others: Fingerprint) -> list[Finding]:
    return [*arrangement(site, own, others), *differences(site, own, others)]


def _facts(sites: Sequence[Fingerprint], pooled: Fingerprint) -> list[Facts]:
    """As many cases as there are, up to about `_CASES`, with the quantiles of their sites, for the rules of `medseg plan`."""
    total = sum(one.cases for one in sites)
    counts = [max(1, round(one.cases * min(1.0, _CASES / total))) for one in sites]
    spacing, extent = (
        np.concatenate([_triples(getattr(one, key), n) for one, n in zip(sites, counts, strict=True)])
        for key in ("spacing_mm", "extent_mm")
    )
    terms: list[str | None] = []
    for one, n in zip(sites, counts, strict=True):
        held = [term for term, m in one.modality.items() for _ in range(round(m * n / one.cases))][:n]
        terms += [*held, *([None] * (n - len(held)))]
    grey = [_grey([one.channels[c] if c < len(one.channels) else None for one in sites], counts, channel)
            for c, channel in enumerate(pooled.channels)]  # fmt: skip
    shape = np.maximum(1, np.round(extent / spacing)).astype(int).tolist()
    return [
        Facts("", tuple(shape[k]), tuple(spacing[k].tolist()), tuple(one[k] for one in grey), {}, "", terms[k])
        for k in range(len(shape))
    ]


def _triples(three: Three | None, n: int) -> np.ndarray:
    """(n, 3); without numbers none."""
    return np.zeros((0, 3)) if three is None else np.stack([axis.cases(n) for axis in three], 1)


def _grey(channels: Sequence[ChannelPrint | None], counts: Sequence[int], pooled: ChannelPrint) -> list[Grey]:
    """Of every case: least, greatest and zeros as its site tells of them, and tissue from the pooled histogram."""
    columns = [
        np.concatenate([
            np.zeros(n) if one is None or key not in one.numbers else one.numbers[key].cases(n)
            for one, n in zip(channels, counts, strict=True)
        ])
        for key in ("least", "high", "zeros")
    ]  # fmt: skip
    values = np.zeros(sum(counts) * _VALUES, np.float32)
    if pooled.bins is not None and sum(pooled.tissue) > 0:
        reached = np.concatenate([[0.0], np.cumsum(pooled.tissue)]) / sum(pooled.tissue)
        edges = np.linspace(pooled.bins.low, pooled.bins.high, pooled.bins.n + 1)
        values = np.interp((np.arange(len(values)) + 0.5) / len(values), reached, edges).astype(np.float32)
    return [
        Grey(float(least), float(high), float(zeros), values[k * _VALUES : (k + 1) * _VALUES])
        for k, (least, high, zeros) in enumerate(zip(*columns, strict=True))
    ]
