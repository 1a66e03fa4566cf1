"""How one site's data differ from others', in words, with the number and the mend.

Two sites are compared number by number. A number differs where the medians lie 1.5 standard deviations apart (within sites,
by quartiles, and no less than `LEAST`), and that is four times what chance does with so few cases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.bundle.intensity import FORM, MEANING
from medseg.federated.names import canonical, unnamed
from medseg.federated.stats.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from medseg.federated.stats.fingerprint import ChannelPrint, Fingerprint, Structure

#: Standard deviations, and times the error of a median, by which numbers differ.
EFFECT, CERTAIN = 1.5, 4.0
#: A median's standard error in units of the mean's.
_OF_MEDIAN = 1.253
#: Standard deviations that a number is taken to have at least; half of the width that a bundle's domain grants.
LEAST = {**{key: width / 2 for key, width in FORM.items()}, "zero": 0.02, "tissue": 0.05}
#: Of grey values in Hounsfield units, and of the logarithm of others.
_LEAST_HU, _LEAST_LOG = 10.0, 0.2
#: Factors.
SPACING, UNITS, EXTENT, VOLUME = 1.25, 5.0, 1.5, 2.0
#: A structure that so many more, or fewer, of the cases have.
_SHARE = 0.3
_FORM = ("u05", "u25", "u50", "u75", "u95", "log_iqr", "tissue", "floor")
_TEXTURE = ("corr1", "corr4", "log_step", "log_bend")
_MEANING = {**MEANING, "tissue": "median of labelled tissue on the scan's scale", "floor": "lowest value"}
_SHOWN = 5
_AXES = ("R-L", "A-P", "S-I")


@dataclass(frozen=True)
class Finding:
    """One thing to know before training.

    Args:
        code: as in docs/errors: MS-J15x and MS-J16x.
        verdict: 'fail' (do not train with this site as it is), 'warn' (look) or 'note'.
        site: whose.
        what: with the numbers, in a sentence.
        mend: what to do.
        topic: what it is about, equal for equal findings at several sites.
    """

    code: str
    verdict: str
    site: str
    what: str
    mend: str
    topic: str

    def row(self) -> tuple[str, ...]:
        """Its cells, as `COLUMNS` name them."""
        return (self.verdict, self.site, self.code, self.what, self.mend)


COLUMNS = ("", "site", "code", "what", "mend")


def differences(site: str, own: Fingerprint, others: Fingerprint) -> list[Finding]:
    """How `own` differs from `others`, one site or several pooled; what either does not say is not compared.

    Labels' places are compared by `medseg.federated.stats.places`.
    """
    found = [*_kinds(site, own, others), *_grids(site, own, others), *_labels(site, own, others)]
    if len(own.channels) == len(others.channels):
        for n, (ours, theirs) in enumerate(zip(own.channels, others.channels, strict=True)):
            where = f"{ours.name}: " if len(own.channels) > 1 else ""
            found += _grey(site, where, n, ours, theirs)
    return found


def differs(own: Sketch | None, others: Sketch | None, least: float, log: bool = False) -> float:
    """Standard deviations by which medians lie apart (signed); 0 where that may be chance."""
    if own is None or others is None:
        return 0.0
    if log:
        own, others = (Sketch(s.n, tuple(math.log(max(v, 1e-12)) for v in s.values)) for s in (own, others))
    n, m = own.n, others.n
    within = math.sqrt((n * own.spread**2 + m * others.spread**2) / (n + m))
    scale = max(within, least)
    apart = (own.median - others.median) / scale
    chance = _OF_MEDIAN * math.sqrt(1 / n + 1 / m) * max(within, 1e-12) / scale
    return apart if abs(apart) >= EFFECT and abs(apart) >= CERTAIN * chance else 0.0


def _kinds(site: str, own: Fingerprint, others: Fingerprint) -> Iterable[Finding]:
    if len(own.channels) != len(others.channels):
        what = f"scans of {len(own.channels)} channels, elsewhere of {len(others.channels)}"
        yield Finding("MS-J159", "fail", site, what, "bring the channels that the others have", "channels")
    ours, theirs = set(own.modality), set(others.modality)
    if ours and theirs and ours != theirs:
        what = f"modality {', '.join(sorted(ours))}, elsewhere {', '.join(sorted(theirs))}"
        mend = "look whether these are the scans that were agreed on"
        yield Finding("MS-J159", "fail" if not ours & theirs else "warn", site, what, mend, "modality")


def _grids(site: str, own: Fingerprint, others: Fingerprint) -> Iterable[Finding]:
    for what, code, ours, theirs, factor in (
        ("voxels", "MS-J153", own.spacing_mm, others.spacing_mm, SPACING),
        ("scans", "MS-J154", own.extent_mm, others.extent_mm, EXTENT),
    ):
        if ours is None or theirs is None:
            continue
        ratios = [a.median / b.median for a, b in zip(ours, theirs, strict=True)]
        axes = [n for n, ratio in enumerate(ratios) if not 1 / factor < ratio < factor]
        if not axes:
            continue
        sizes = [" x ".join(f"{s.median:.3g}" for s in three) for three in (ours, theirs)]
        told = f"{what} of {sizes[0]} mm (median), elsewhere of {sizes[1]} mm: {max(ratios[n] for n in axes):.2g} times"
        told += f" along {', '.join(_AXES[n] for n in axes)}"
        verdict, mend = "warn" if code == "MS-J153" else "note", "nothing, if it is so: all are brought to one grid"
        if code == "MS-J153" and any(not 1 / UNITS < ratios[n] < UNITS for n in axes):
            verdict, mend = "fail", "look at the headers: are centimetres or metres taken for millimetres?"
        elif code == "MS-J154":
            mend = "look whether these are the scans that were agreed on; crop them if they show more of the body"
        yield Finding(code, verdict, site, told, mend, what)


def _grey(site: str, where: str, n: int, own: ChannelPrint, others: ChannelPrint) -> Iterable[Finding]:
    raw = own.bins is not None and own.bins.unit == "raw"
    shift = _unit(own.numbers, others.numbers)
    if shift:
        mend = "look at RescaleSlope and RescaleIntercept, or at what exported the scans"
        if not raw:
            mend = "nothing, if the bundle scales each scan by its own quantiles; else look at what exported the scans"
        yield Finding("MS-J151", "warn", site, where + shift, mend, f"{n} unit")
    for topic, keys in (("form", _FORM), ("texture", _TEXTURE)):
        apart = {
            key: differs(own.numbers.get(key), others.numbers.get(key), LEAST.get(key, 0.05))
            for key in keys
            if key in own.numbers and key in others.numbers
        }
        far = sorted((key for key in apart if apart[key]), key=lambda key: -abs(apart[key]))
        if far:
            first = far[0]
            a, b = own.numbers[first].median, others.numbers[first].median
            what = f"{_MEANING[first]} {a:.3g}, elsewhere {b:.3g} ({abs(apart[first]):.1f} standard deviations)"
            what += f"; {len(far) - 1} more numbers differ" if len(far) > 1 else ""
            mend = "look at the scans: another sequence, contrast or filter? Scaling does not take this away"
            if topic == "texture":
                mend = "look at the scans: another resolution, smoothing or noise? Scaling does not take this away"
            yield Finding("MS-J152", "warn", site, f"{where}{topic} of the grey values: {what}", mend, f"{n} {topic}")


def _unit(own: Mapping[str, Sketch], others: Mapping[str, Sketch]) -> str:
    """What was added to grey values, or multiplied with them."""
    for key in ("zero", "level"):
        a, b = own.get(key), others.get(key)
        if a is None or b is None:
            continue
        log = key == "level" and min(a.values[0], b.values[0]) > 0
        least = LEAST["zero"] if key == "zero" else _LEAST_LOG if log else _LEAST_HU
        apart = differs(a, b, least, log=log)
        if apart and key == "zero":
            told = f"0 lies at {a.median:.3g} of the range of a scan, elsewhere at {b.median:.3g}"
            return f"something was added to the grey values: {told} ({abs(apart):.1f} standard deviations)"
        if apart:
            told = f"the median of a scan is {a.median:.4g}, elsewhere {b.median:.4g}"
            return f"grey values of another size: {told} ({abs(apart):.1f} standard deviations)"
    return ""


def _labels(site: str, own: Fingerprint, others: Fingerprint) -> Iterable[Finding]:
    ours, theirs = _keyed(own.structures, others.structures), _keyed(others.structures, own.structures)
    if own.structures and _nameless(own.structures) and not _nameless(others.structures):
        mend = "name them under labels in dataset.json"
        yield Finding("MS-J157", "note", site, "nothing names its labels: they are taken by value", mend, "unnamed")
    for key, one in ours.items():
        if key in theirs:
            other = theirs[key]
            if one.name != other.name and not unnamed(one.name) and not unnamed(other.name):
                what = f"{one.name!r} is called {other.name!r} elsewhere"
                yield Finding("MS-J157", "note", site, what, "nothing: they are taken for one", f"spelling {key}")
            yield from _amounts(site, one, other, own.cases, others.cases)
    values = {one.value: one for one in others.structures}
    for one in own.structures:
        other = values.get(one.value)
        if other is None or canonical(other) == canonical(one) or unnamed(one.name) or unnamed(other.name):
            continue
        what = f"label {one.value} is {one.name!r}, elsewhere {other.name!r}"
        mend = (
            "nothing, if the union of labels is used (agreed.json): it renumbers by name; else renumber the label maps"
        )
        yield Finding("MS-J158", "fail", site, what, mend, f"value {one.value}")
    for told, mine, rest, mend in (
        ("not labelled here", theirs, ours, "train with partial labels (agreed.json says which), or label them"),
        ("labelled here alone", ours, theirs, "train with partial labels (agreed.json says which), or rename them"),
    ):
        for key in mine:
            if key not in rest and own.structures and others.structures:
                what = f"{mine[key].name!r} is {told}"
                yield Finding("MS-J157", "warn", site, what, mend, f"{told} {key}")


def _nameless(structures: Sequence[Structure]) -> bool:
    return all(unnamed(one.name) for one in structures)


def _keyed(structures: Sequence[Structure], others: Sequence[Structure]) -> dict[str, Structure]:
    """By canonical name; what is only a value takes the name that the others give to it."""
    named = {one.value: one for one in others if not unnamed(one.name)}
    return {canonical(named.get(one.value, one) if unnamed(one.name) else one): one for one in structures}


def _amounts(site: str, own: Structure, others: Structure, cases: int, elsewhere: int) -> Iterable[Finding]:
    if own.volume_ml is not None and others.volume_ml is not None:
        a, b = own.volume_ml.median, others.volume_ml.median
        far = not 1 / VOLUME < a / max(b, 1e-9) < VOLUME
        if far and differs(own.volume_ml, others.volume_ml, _LEAST_LOG, log=True):
            what = f"{own.name!r} has {a:.3g} mL (median), elsewhere {b:.3g} mL"
            mend = "look whether the same is labelled by the same rules"
            yield Finding("MS-J160", "warn", site, what, mend, f"volume {canonical(own)}")
    if own.cases is not None and others.cases is not None and cases and elsewhere:
        p, q = own.cases / cases, others.cases / elsewhere
        both = (own.cases + others.cases) / (cases + elsewhere)
        chance = math.sqrt(max(both * (1 - both), 1e-9) * (1 / cases + 1 / elsewhere))
        if abs(p - q) > max(_SHARE, CERTAIN * chance):
            what = f"{own.name!r} is in {100 * p:.0f} % of the cases, elsewhere in {100 * q:.0f} %"
            mend = "take it out of labels in dataset.json if it was not looked for; nothing, if patients differ"
            yield Finding("MS-J160", "note", site, what, mend, f"share {canonical(own)}")
