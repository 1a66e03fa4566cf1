"""What a site says of its data before anybody trains: counts, quantiles and histograms over cases, never a case.

Fewer than `at_least` cases say nothing: a whole site, a structure or a modality that rests on fewer is left out,
and bins of a histogram are put together. A server can ask for more and
not for less.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.bundle.intensity import FORM
from medseg.federated.stats.sketch import Sketch, rounded, sketch_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from medseg.federated.stats.survey import Seen, Survey

#: Cases below which a site says nothing, however few a server asks for.
AT_LEAST = 5
#: Numbers of a channel that are told, as `survey.Channel` and `medseg.bundle.intensity` explain them.
NUMBERS = ("floor", *FORM, "level", "low", "high", "zero", "tissue", "least", "zeros")
#: In a name of a structure or channel: letters, digits and few signs; no long number (a date, a patient), no file name.
NAME = re.compile(r"(?!.*\d{5})(?!.*\d{4}[-_. ]\d)(?!(?i:.*\.(nii|gz|dcm|nrrd|mha|json)))[^\W_][\w ,.()/+&'\-]{0,63}")
#: A term of DICOM for a modality.
MODALITY = re.compile(r"[A-Z]{2,16}")

Three = tuple[Sketch, Sketch, Sketch]


@dataclass(frozen=True)
class Bins:
    """Bins that all sites share, of equal width.

    Args:
        unit: 'raw' grey values (CT), or 'scan': 0 at a scan's 0.5 % quantile and 1 at its 99.5 %.
        low: edge of the first.
        high: edge of the last; what lies beyond falls into the outer bins.
        n: how many.
    """

    unit: str
    low: float
    high: float
    n: int

    @property
    def centres(self) -> np.ndarray:
        """(n,) the middle of each."""
        return self.low + (np.arange(self.n) + 0.5) * (self.high - self.low) / self.n

    def counts(self, values: np.ndarray, low: float, high: float) -> np.ndarray:
        """(n,) how many grey values of a scan with these quantiles fall into each."""
        found = values.astype(np.float64)
        if self.unit == "scan":
            found = (found - low) / max(high - low, 1e-12)
        place = np.floor((found - self.low) / (self.high - self.low) * self.n).astype(np.int64)
        return np.bincount(place.clip(0, self.n - 1), minlength=self.n)


#: Where grey values have no unit, as in MR.
SCAN_BINS = Bins("scan", -0.1, 1.1, 60)


@dataclass(frozen=True)
class ChannelPrint:
    """One channel over the cases of a site.

    Args:
        name: of it.
        numbers: `NUMBERS` over cases.
        bins: of the histograms; None: none was asked for.
        grey: share of the voxels in each bin, each case weighing the same; () of too few cases.
        tissue: the same of labelled voxels.
    """

    name: str
    numbers: Mapping[str, Sketch]
    bins: Bins | None = None
    grey: tuple[float, ...] = ()
    tissue: tuple[float, ...] = ()


@dataclass(frozen=True)
class Structure:
    """One structure over the cases of a site.

    Args:
        name: of it.
        value: in the site's label maps.
        cases: how many have it; None: some, but too few to say.
        volume_ml: where it is.
        offset_mm: its centre of mass from the body's, along the patient's R, A and S.
        mirror: name of its partner on the other side.
        right: share of the cases in which it lies farther to the patient's right than its partner.
    """

    name: str
    value: int
    cases: int | None
    volume_ml: Sketch | None = None
    offset_mm: Three | None = None
    mirror: str | None = None
    right: float | None = None


@dataclass(frozen=True)
class Fingerprint:
    """A site, or several pooled.

    Args:
        cases: how many it rests on; 0: fewer than `at_least`, and nothing but names is said.
        at_least: cases below which nothing is said.
        unreadable: how many cases have a fault.
        modality: DICOM's term -> cases of it.
        spacing_mm: of voxels along R-L, A-P and S-I.
        extent_mm: of scans, likewise.
        channels: in order.
        structures: in order of their values.
    """

    cases: int
    at_least: int
    unreadable: int
    modality: Mapping[str, int]
    spacing_mm: Three | None
    extent_mm: Three | None
    channels: tuple[ChannelPrint, ...]
    structures: tuple[Structure, ...]

    @property
    def by_name(self) -> dict[str, Structure]:
        """Name -> structure."""
        return {one.name: one for one in self.structures}


def fingerprint_of(survey: Survey, bins: Sequence[Bins] = (), at_least: int = AT_LEAST) -> Fingerprint:
    """What a site says of its cases.

    Args:
        survey: of it.
        bins: of each channel, agreed with the other sites; () leaves histograms out.
        at_least: cases below which nothing is said.
    """
    seen = survey.seen if len(survey.seen) >= at_least else ()
    names = {row.name: _said(row.name, f"structure {row.value}") for row in survey.table}
    structures = tuple(
        _structure(row.name, row.value, row.mirror, names, seen, survey.seen, at_least) for row in survey.table
    )
    terms = [one.facts.modality for one in seen if one.facts.modality and MODALITY.fullmatch(one.facts.modality)]
    return Fingerprint(
        cases=len(seen),
        at_least=at_least,
        unreadable=len({p.case or p.file for p in survey.problems if not p.note}),
        modality={term: terms.count(term) for term in sorted(set(terms)) if terms.count(term) >= at_least},
        spacing_mm=_three([one.facts.spacing_mm for one in seen], at_least),
        extent_mm=_three([one.facts.extent_mm for one in seen], at_least),
        channels=tuple(
            _channel(_said(name, f"channel {n}"), n, seen, bins[n] if n < len(bins) else None, at_least)
            for n, name in enumerate(survey.channels)
        ),
        structures=structures,
    )


def _channel(name: str, n: int, seen: Sequence[Seen], bins: Bins | None, at_least: int) -> ChannelPrint:
    ours = [one.channels[n] for one in seen]
    sketches = {key: _sketch((c.numbers[key] for c in ours if key in c.numbers), at_least) for key in NUMBERS}
    numbers = {key: sketch for key, sketch in sketches.items() if sketch is not None}
    if bins is None or not ours:
        return ChannelPrint(name, numbers)
    ranges = [(c.numbers["low"], c.numbers["high"]) for c in ours]
    grey = [bins.counts(c.grey, *of) for c, of in zip(ours, ranges, strict=True)]
    tissue = [bins.counts(c.tissue, *of) for c, of in zip(ours, ranges, strict=True) if c.tissue.size]
    return ChannelPrint(name, numbers, bins, _histogram(grey, at_least), _histogram(tissue, at_least))


def _histogram(counts: Sequence[np.ndarray], at_least: int) -> tuple[float, ...]:
    """Shares of voxels, each case weighing the same; () of too few cases.

    From either end to the middle, neighbouring bins are put together until enough cases reach into them, and what they
    hold is told at its mean: the brightest voxel of one case is not.
    """
    if len(counts) < at_least or not counts:
        return ()
    table = np.array(counts, np.float64)
    table /= table.sum(1, keepdims=True)
    shares, bins = table.mean(0), table.shape[1]
    middle = int(np.searchsorted(np.cumsum(shares), 0.5).clip(0, bins - 1))
    out = np.zeros(bins)
    for order in (range(middle), range(bins - 1, middle - 1, -1)):
        group: list[int] = []
        place = middle
        for n in order:
            group.append(n)
            if (table[:, group] > 0).any(1).sum() >= at_least:
                place = round(float(np.average(group, weights=shares[group])))
                out[place] += shares[group].sum()
                group = []
        out[place] += shares[group].sum()
    return tuple(rounded(x) for x in out)


def _structure(
    name: str,
    value: int,
    mirror: str | None,
    names: Mapping[str, str],
    seen: Sequence[Seen],
    every: Sequence[Seen],
    at_least: int,
) -> Structure:
    held = [one for one in seen if name in one.offset_mm]
    n = len(held) if seen else sum(name in one.offset_mm for one in every)
    other = None if mirror is None else names[mirror]
    if len(held) < at_least:
        return Structure(names[name], value, 0 if n == 0 else None, mirror=other)
    right = None
    both = [one.offset_mm for one in held if mirror in one.offset_mm]
    if mirror is not None and len(both) >= at_least:
        right = rounded(sum(offset[name][0] > offset[mirror][0] for offset in both) / len(both), 3)
    return Structure(
        names[name],
        value,
        len(held),
        _sketch((one.volume_ml[name] for one in held), at_least),
        _three([one.offset_mm[name] for one in held], at_least),
        other,
        right,
    )


def _sketch(numbers: Iterable[float], at_least: int) -> Sketch | None:
    found = sketch_of(numbers)
    return None if found is None or found.n < at_least else found


def _three(rows: Sequence[Sequence[float]], at_least: int) -> Three | None:
    found = [_sketch(column, at_least) for column in zip(*rows, strict=True)]
    return None if not found or None in found else (found[0], found[1], found[2])  # type: ignore[return-value]


def _said(name: str, instead: str) -> str:
    return name if NAME.fullmatch(name) else instead
