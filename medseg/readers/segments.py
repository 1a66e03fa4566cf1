"""3D Slicer's segmentations (.seg.nrrd): layers of segments into one label map with names, colours and codes.

A segment is the voxels of one value in one layer. Layers exist because segments may overlap; one label map can hold
an overlap only where one segment lies wholly inside another (core in tumour): the inner one is kept on top and the
outer one's `region` names both. Any other overlap is refused, because every choice would lose voxels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError
from medseg.labels import PALETTE, Code, Label, LabelTable
from medseg.volume import Decision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_KEY = re.compile(r"Segment(\d+)_(\w+)")


@dataclass(frozen=True)
class _Segment:
    layer: int
    stored: int
    label: Label


def is_segmentation(pairs: Mapping[str, str]) -> bool:
    """Whether the key:=value lines of an NRRD header describe segments."""
    return any(_KEY.fullmatch(key) for key in pairs)


def flatten(
    array: np.ndarray, pairs: Mapping[str, str], path: Path, names: Sequence[str] | None = None
) -> tuple[np.ndarray, LabelTable, tuple[Decision, ...]]:
    """One label map out of the layers of a segmentation.

    Args:
        array: (I, J, K), or (L, I, J, K) with a layer each, of an integer type.
        pairs: the key:=value lines of the header.
        path: named when refused.
        names: of the segments to read, or their values; None: all of them.

    Returns:
        (I, J, K) uint8 or uint16 (a view of `array` where nothing had to change), the table, and what was decided.

    Raises:
        InputError: MS-R120 values that are no labels, MS-R121 segments that overlap without being nested, MS-R122 a
            segment that is not in it.
    """
    layers = array if array.ndim == 4 else array[None]
    if array.dtype.kind not in "iu" or any(
        layer.min() < 0 or layer.max() > np.iinfo(np.uint16).max for layer in layers
    ):
        raise InputError(
            "MS-R120",
            f"a segmentation whose voxels are no labels (type {array.dtype}, or values below 0 or above 65535)",
            file=path,
            mend="save it in 3D Slicer as a binary labelmap",
        )
    segments, decisions = _segments(pairs, layers)
    table = LabelTable(tuple(s.label for s in segments))
    if names is not None:
        wanted = wanted_values(table, names, path, "segment", "MS-R122")
        segments = [s for s in segments if s.label.value in wanted]
    elif len(layers) == 1:
        return array.reshape(array.shape[-3:]), table, decisions
    out, labels = _overlaid(layers, segments, path)
    nested = [label for label in labels if label.region]
    if nested:
        names = ", ".join(label.name for label in nested)
        decisions += (Decision("MS-R222", f"segments lie inside others; the inner ones are on top of: {names}"),)
    return out, LabelTable(tuple(labels)), decisions


def wanted_values(
    table: LabelTable, names: Sequence[str | int] | None, path: Path, what: str, code: str = "MS-D306"
) -> list[int]:
    """The values of the structures named by `names` (names or values), of all when it is None.

    Raises:
        InputError: `code` for a structure that is not in the file, or a file without any.
    """
    values = {**{str(v): v for v in table.by_value}, **{name: label.value for name, label in table.by_name.items()}}
    wanted = [x.value for x in table] if names is None else [values[str(n)] for n in names if str(n) in values]
    missing = [str(n) for n in names or () if str(n) not in values]
    if missing or not wanted:
        known = ", ".join(f"{x.value} {x.name!r}" for x in table) or "none at all"
        found = f"no {what} {', '.join(missing)} in it" if missing else f"no {what} to read in it"
        raise InputError(code, f"{found}; it holds {known}", file=path, mend=f"name a {what} that it holds")
    return sorted(set(wanted))


def _segments(pairs: Mapping[str, str], layers: np.ndarray) -> tuple[list[_Segment], tuple[Decision, ...]]:
    """Every segment of the header, and one for each value that the header does not name."""
    numbers = sorted({int(match.group(1)) for key in pairs if (match := _KEY.fullmatch(key))})
    segments = [_segment(pairs, number, len(layers)) for number in numbers]
    present = [set(np.flatnonzero(np.bincount(layer.reshape(-1, order="A")))) - {0} for layer in layers]
    named = {(s.layer, s.stored) for s in segments}
    strays = [(n, int(v)) for n, values in enumerate(present) for v in sorted(values) if (n, int(v)) not in named]
    decisions: tuple[Decision, ...] = ()
    if strays:
        values = ", ".join(str(v) for _, v in strays[:8])
        decisions += (Decision("MS-R221", f"values without a segment, kept as labels without meaning: {values}"),)
        segments += [_Segment(n, v, _plain_label(v, f"label {v}", index)) for index, (n, v) in enumerate(strays)]
    stored = [s.stored for s in segments]
    if len(set(stored)) < len(stored):
        segments = [replace(s, label=replace(s.label, value=n)) for n, s in enumerate(segments, 1)]
        decisions += (Decision("MS-R220", f"label values repeat between layers; numbered 1 to {len(segments)} anew"),)
    return _named_apart(segments), decisions


def _segment(pairs: Mapping[str, str], number: int, layers: int) -> _Segment:
    def value(key: str) -> str:
        return pairs.get(f"Segment{number}_{key}", "").strip()

    # Files of before 2020 have one layer for each segment and no LabelValue.
    stored = int(value("LabelValue")) if value("LabelValue").isdigit() else 1 if layers > 1 else number + 1
    layer = int(value("Layer")) if value("Layer").isdigit() else min(number, layers - 1)
    label = _plain_label(max(stored, 1), value("Name") or value("ID") or f"segment {number + 1}", number)
    category, kind, modifier = _codes(value("Tags"))
    return _Segment(
        min(layer, layers - 1),
        max(stored, 1),
        replace(label, colour=_colour(value("Color")) or label.colour, category=category, type=kind, modifier=modifier),
    )


def _plain_label(value: int, name: str, index: int) -> Label:
    return Label(value=value, name=name, colour=PALETTE[index % len(PALETTE)])


def _named_apart(segments: list[_Segment]) -> list[_Segment]:
    seen: dict[str, int] = {}
    out = []
    for segment in segments:
        name = segment.label.name
        seen[name] = seen.get(name, 0) + 1
        label = segment.label if seen[name] == 1 else replace(segment.label, name=f"{name} ({seen[name]})")
        out.append(replace(segment, label=label))
    return out


def _colour(text: str) -> tuple[int, int, int] | None:
    """'0.5 0.25 1' -> (128, 64, 255)."""
    try:
        red, green, blue = (min(255, max(0, round(float(x) * 255))) for x in text.split())
    except ValueError:
        return None
    return red, green, blue


def _codes(tags: str) -> tuple[Code | None, Code | None, Code | None]:
    """Category, type and modifier out of 'TerminologyEntry:context~scheme^value^meaning~...|...'."""
    match = re.search(r"TerminologyEntry:([^|]*)", tags)
    parts = match.group(1).split("~") if match else []
    category, kind, modifier = (_code(parts[n]) if len(parts) > n else None for n in (1, 2, 3))
    return category, kind, modifier


def _code(text: str) -> Code | None:
    scheme, _, rest = text.partition("^")
    value, _, meaning = rest.partition("^")
    return Code(scheme, value, meaning) if scheme and value else None


def _overlaid(layers: np.ndarray, segments: list[_Segment], path: Path) -> tuple[np.ndarray, list[Label]]:
    """The layers in one map: larger segments first, so that a segment inside another ends up on top of it."""
    index = [_indexed(layer, n, segments) for n, layer in enumerate(layers)]
    sizes, shared = _overlaps(index, len(segments))
    inside: dict[int, list[int]] = {}
    for a, b in zip(*np.nonzero(np.triu(shared)), strict=True):
        inner, outer = (int(a), int(b)) if sizes[a] < sizes[b] else (int(b), int(a))
        if shared[a, b] != sizes[inner]:
            raise InputError(
                "MS-R121",
                f"segments {segments[outer].label.name!r} and {segments[inner].label.name!r} overlap in "
                f"{shared[a, b]} voxels without one lying inside the other: one label map cannot hold both",
                file=path,
                mend=f"read them apart with --segments {quote(segments[outer].label.name)}, or remove the overlap in "
                "3D Slicer's Segment Editor (Masking: overwrite all)",
            )
        inside.setdefault(outer, []).append(inner)
    values = [s.label.value for s in segments]
    out = np.zeros(layers.shape[1:], np.uint8 if max(values) < 256 else np.uint16, order="F")
    for n in sorted(range(len(segments)), key=lambda n: -sizes[n]):
        out[index[segments[n].layer] == n + 1] = values[n]
    labels = [s.label for s in segments]
    for outer, inner in inside.items():
        region = tuple(sorted({values[outer], *(values[n] for n in inner)}))
        labels[outer] = replace(labels[outer], region=region)
    return out, labels


def _indexed(layer: np.ndarray, number: int, segments: list[_Segment]) -> np.ndarray:
    """`layer` with stored values replaced by 1 + the index of their segment."""
    table = np.zeros(1 + max(int(layer.max()), *(s.stored for s in segments)), np.int64)
    for n, segment in enumerate(segments, 1):
        if segment.layer == number:
            table[segment.stored] = n
    return table[layer]


def _overlaps(index: list[np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count,) voxels of each segment and (count, count) voxels that two segments share."""
    side = count + 1
    sizes = sum(np.bincount(one.ravel(order="K"), minlength=side) for one in index)
    shared = np.zeros((side, side), np.int64)
    for n, one in enumerate(index):
        for other in index[n + 1 :]:
            joint = np.bincount((one * side + other).ravel(order="K"), minlength=side * side).reshape(side, side)
            shared += joint + joint.T
    return np.asarray(sizes)[1:], shared[1:, 1:]
