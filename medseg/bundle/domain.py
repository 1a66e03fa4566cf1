"""The domain of a bundle: what scans it was trained on, and whether a given scan is one of them.

A network segments whatever it is given. Asked for a hippocampus in a liver, it finds one, and nothing in the
output says that it is nonsense. So a bundle declares what its training scans were, measured and not guessed,
and `medseg predict` refuses a scan that lies outside.

How far outside is outside? The bundle holds the plain minimum and maximum over its training cases; the margins
are stated here, once, in `MARGINS`. They are wide on purpose: the guard is to catch a CT given to an MR bundle, a
whole head given to a model of a small box, or centimetres taken for millimetres; a good scan of another scanner
must pass. Where scans come from a program and not from scanners, nothing lies far beyond what was measured, and a
bundle can say so: `form_margin` replaces `Margins.form` for it. Plain ranges, widened by one training range on either side, were preferred to a Mahalanobis distance:
with a threshold from leave-one-out over the training cases the latter also refuses sound scans that lie off the
training cases' narrow cloud in one number (an averaged, skull-stripped T1 template among them), and it can not
name what is wrong.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.bundle.intensity import FORM, MEANING, describe
from medseg.errors import BundleError
from medseg.geometry import reorientation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from medseg.labels import LabelTable
    from medseg.volume import Volume

Range = tuple[float, float]


@dataclass(frozen=True)
class Margins:
    """How far a scan may lie beyond the training cases.

    Args:
        extent: factor on the field of view: [lowest / extent, highest * extent] is accepted.
        spacing: factor on the voxel spacing, likewise.
        form: training ranges added on either side of each number of `intensity.FORM`.
        negative: values below -negative x (the 99 % quantile) count as negative; less is rounding or interpolation.
        volume: factor on a structure's volume before it is flagged.
    """

    extent: float = 1.5
    spacing: float = 1.5
    form: float = 1.0
    negative: float = 0.01
    volume: float = 1.5


MARGINS = Margins()
_MEND = "use a scan like those the bundle was trained on; --outside-domain proceeds and marks every output"


@dataclass(frozen=True)
class Domain:
    """What a bundle was trained on, as plain minimum and maximum over the training cases.

    Args:
        modality: accepted DICOM Modality terms, e.g. ('MR',).
        anatomy: what the scans show, for people.
        cases: how many training cases were measured.
        extent_mm: (low, high) of the field of view along the patient's R-L, A-P and S-I axis.
        spacing_mm: (low, high) of the voxel spacing along the same axes.
        intensity: one mapping a channel: name of a number of `intensity.describe` -> (low, high).
        volume_ml: structure -> (low, high) of its volume where it is present, mL.
        form_margin: above 0, instead of `Margins.form`; None: that.
    """

    modality: tuple[str, ...]
    anatomy: str
    cases: int
    extent_mm: tuple[Range, Range, Range]
    spacing_mm: tuple[Range, Range, Range]
    intensity: tuple[Mapping[str, Range], ...]
    volume_ml: Mapping[str, Range] = field(default_factory=dict)
    form_margin: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, as it stands under `domain` in inference.json; `from_json` reads it back."""
        return _plain({key: value for key, value in asdict(self).items() if value is not None})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Domain:
        """Read `to_json`'s data.

        Raises:
            BundleError: MS-B130 naming the entry that is missing or malformed.
        """
        try:
            return cls(
                modality=tuple(str(m) for m in data["modality"]),
                anatomy=str(data["anatomy"]),
                cases=int(data["cases"]),
                extent_mm=_three(data["extent_mm"]),
                spacing_mm=_three(data["spacing_mm"]),
                intensity=tuple({str(k): _pair(v) for k, v in channel.items()} for channel in data["intensity"]),
                volume_ml={str(k): _pair(v) for k, v in data.get("volume_ml", {}).items()},
                form_margin=_margin(data.get("form_margin")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                "MS-B130",
                f"its `domain` is not readable: {type(error).__name__}: {error}",
                mend="write it with medseg.bundle.measure_domain",
            ) from error


@dataclass(frozen=True)
class Violation:
    """One way in which a scan lies outside a bundle's domain."""

    code: str
    message: str
    mend: str = _MEND


def measure_domain(
    images: Iterable[Volume],
    labels: Iterable[Volume] = (),
    *,
    table: LabelTable | None = None,
    modality: Sequence[str] = (),
    anatomy: str = "",
) -> dict[str, Any]:
    """Measure a bundle's `domain` on its training cases.

    Args:
        images: the training scans, (I, J, K) or (C, I, J, K) each; read one by one, none is kept.
        labels: their label maps, for the volume of each structure of `table`.
        table: what the label values mean.
        modality: accepted DICOM Modality terms; the scans' own where they carry them.
        anatomy: what the scans show, for people.

    Returns:
        What `Domain.from_json` reads, numbers rounded to 4 digits.

    Raises:
        ValueError: no scan was given, or one has no structure (constant).
    """
    extents, spacings, forms, found = [], [], [], set(modality)
    for image in images:
        canonical = image.reoriented("RAS").grid
        extents.append(canonical.extent_mm)
        spacings.append(canonical.spacing_mm)
        described = [describe(channel) for channel in _channels(image)]
        if None in described:
            msg = f"training scan {len(forms) + 1} ({image.source.path}) is constant or smaller than 5 voxels"
            raise ValueError(msg)
        forms.append(described)
        if image.source.modality:
            found.add(image.source.modality)
    if not forms:
        msg = "a domain is measured on at least one training scan, none was given"
        raise ValueError(msg)
    volumes: dict[str, list[float]] = {}
    for label in labels:
        for name, ml in volumes_ml(label, table).items():
            volumes.setdefault(name, []).append(ml)
    x, y, z = (_span(column) for column in zip(*extents, strict=True))
    sx, sy, sz = (_span(column) for column in zip(*spacings, strict=True))
    intensity = tuple(
        {key: _span([form[c][key] for form in forms]) for key in forms[0][c]} for c in range(len(forms[0]))
    )
    return Domain(
        modality=tuple(sorted(found)),
        anatomy=anatomy,
        cases=len(forms),
        extent_mm=(x, y, z),
        spacing_mm=(sx, sy, sz),
        intensity=intensity,
        volume_ml={name: _span(values) for name, values in volumes.items()},
    ).to_json()


def volumes_ml(label: Volume, table: LabelTable | None) -> dict[str, float]:
    """Volume of every structure of `table` that is present in a label map, mL; regions hold their parts."""
    counts = dict(zip(*(v.tolist() for v in np.unique(label.array, return_counts=True)), strict=True))
    rows = {x.name: (x.region or (x.value,)) for x in table} if table else {f"label {v}": (v,) for v in counts if v > 0}
    voxels = {name: sum(counts.get(v, 0) for v in values) for name, values in rows.items()}
    return {name: n * label.grid.voxel_ml for name, n in voxels.items() if n}


def check_domain(volume: Volume, domain: Domain, margins: Margins = MARGINS) -> list[Violation]:
    """How `volume` (I, J, K) or (C, I, J, K) lies outside `domain`: [] for a scan that may be segmented.

    Codes: MS-X101 modality, MS-X102 field of view, MS-X103 voxel spacing, MS-X104 negative grey values (or none
    where the training scans have them), MS-X105 form of the grey values, MS-X106 number of channels, MS-X107 no
    structure at all.
    """
    found = []
    if volume.source.modality and domain.modality and volume.source.modality not in domain.modality:
        accepted = ", ".join(domain.modality)
        found.append(Violation("MS-X101", f"this is {volume.source.modality}, the bundle was trained on {accepted}"))
    found += _check_axes(volume, domain, margins)
    if domain.form_margin is not None:
        margins = replace(margins, form=domain.form_margin)
    channels = _channels(volume)
    if len(channels) != len(domain.intensity):
        found.append(Violation("MS-X106", f"{len(channels)} channels, the bundle takes {len(domain.intensity)}"))
        return found
    for number, (image, ranges) in enumerate(zip(channels, domain.intensity, strict=True)):
        where = f"channel {number}: " if len(channels) > 1 else ""
        found += _check_intensity(image, ranges, where, margins)
    return found


def check_result(volumes: Mapping[str, float], domain: Domain, margins: Margins = MARGINS) -> list[Violation]:
    """Flags for a finished segmentation whose volumes (mL) are unlike the training cases' (MS-X210, MS-X211)."""
    flags = []
    for name, (low, high) in domain.volume_ml.items():
        ml = volumes.get(name, 0.0)
        seen = f"{low:.2f} to {high:.2f} mL in {domain.cases} training cases"
        if ml <= 0:
            flags.append(Violation("MS-X211", f"{name} was not found; it is {seen}", "look at the segmentation"))
        elif not low / margins.volume <= ml <= high * margins.volume:
            flags.append(Violation("MS-X210", f"{name} is {ml:.2f} mL; it is {seen}", "look at the segmentation"))
    return flags


def _check_axes(volume: Volume, domain: Domain, margins: Margins) -> list[Violation]:
    grid = reorientation(volume.grid, "RAS").apply_grid(volume.grid)
    found = []
    for code, what, values, ranges, factor in (
        ("MS-X102", "field of view", grid.extent_mm, domain.extent_mm, margins.extent),
        ("MS-X103", "voxel spacing", grid.spacing_mm, domain.spacing_mm, margins.spacing),
    ):
        accepted = [(low / factor, high * factor) for low, high in ranges]
        if any(not a - 1e-3 <= value <= b + 1e-3 for value, (a, b) in zip(values, accepted, strict=True)):
            have = " x ".join(f"{v:.3g}" for v in values)
            want = " x ".join(f"{a:.3g}-{b:.3g}" for a, b in accepted)
            found.append(Violation(code, f"{what} {have} mm (R-L x A-P x S-I), accepted {want} mm"))
    return found


def _check_intensity(image: np.ndarray, ranges: Mapping[str, Range], where: str, margins: Margins) -> list[Violation]:
    form = describe(image)
    if form is None:
        return [Violation("MS-X107", f"{where}no structure: the image is constant, all but empty or below 5 voxels")]
    found = []
    negative, trained = form["floor"] < -margins.negative, [v < -margins.negative for v in ranges["floor"]]
    if negative and not any(trained):
        lowest = f"{where}grey values go down to {image.min():.4g}, none was negative in training (is this a CT?)"
        found.append(Violation("MS-X104", lowest))
    if not negative and all(trained):
        found.append(Violation("MS-X104", f"{where}no negative grey values, every training scan has them"))
    unlike: dict[str, float] = {}
    for name, least in FORM.items():
        low, high = ranges[name]
        slack = margins.form * max(high - low, least)
        if not low - slack <= form[name] <= high + slack:
            said = f"{MEANING[name]} {form[name]:.3g} (accepted {low - slack:.3g} to {high + slack:.3g})"
            unlike[said] = max(low - form[name], form[name] - high) / slack
    if unlike:
        worst = max(unlike, key=lambda said: unlike[said])
        others = f" and {len(unlike) - 1} more of their numbers" if len(unlike) > 1 else ""
        found.append(Violation("MS-X105", f"{where}grey values unlike the training scans': {worst}{others}"))
    return found


def _channels(volume: Volume) -> list[np.ndarray]:
    return [volume.array] if volume.array.ndim == 3 else list(volume.array)


def _span(values: Sequence[float]) -> Range:
    return float(min(values)), float(max(values))


def _pair(value: Sequence[float]) -> Range:
    low, high = value
    return float(low), float(high)


def _margin(value: float | None) -> float | None:
    if value is not None and not value > 0:
        msg = f"form_margin is above 0, not {value}"
        raise ValueError(msg)
    return None if value is None else float(value)


def _three(values: Sequence[Sequence[float]]) -> tuple[Range, Range, Range]:
    x, y, z = values
    return _pair(x), _pair(y), _pair(z)


def _plain(value: Any) -> Any:
    """Tuples to lists and floats to 4 significant decimals, for JSON."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value
