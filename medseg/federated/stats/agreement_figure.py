"""Sites side by side in one picture: grey values, voxels, where structures lie, and which are labelled.

Shown at a site before it joins, and to whoever runs the federation.
"""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.federated.names import canonical
from medseg.federated.stats.sketch import PROBS
from medseg.labels import PALETTE
from medseg.writers.atomic import write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from medseg.federated.stats.findings import Finding
    from medseg.federated.stats.fingerprint import Fingerprint

#: Structures and sites that are drawn; a picture of more tells nothing.
_STRUCTURES, _SITES = 24, 7
_AXES = ("R-L", "A-P", "S-I")
_COLOURS = {"fail": "#b00020", "warn": "#9a6700", "note": "#444444"}
_LINES = 8
_WIDTH = 150


def agreement_figure(sites: Mapping[str, Fingerprint], findings: Sequence[Finding] = ()) -> Figure:
    """Four panels, and what was found below them.

    Args:
        sites: by name, such as `{"this site": own, "the others": pooled}`; each has one colour in all panels.
        findings: failures first.
    """
    from matplotlib.figure import Figure

    shown = dict(list(sites.items())[:_SITES])
    lines = _lines(findings)
    figure = Figure(figsize=(12, 8 + 0.22 * len(lines)), dpi=100, layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(8, 0.22 * len(lines) + 0.1))
    above, below = parts
    (grey, voxels), (places, labels) = above.subplots(2, 2)
    _grey(grey, shown)
    _voxels(voxels, shown)
    _places(places, shown)
    _labels(labels, shown)
    handles = [voxels.plot([], [], "o", color=_colour(n), label=_legend(name, one))[0] for n, (name, one) in enumerate(shown.items())]  # fmt: skip
    box = above.legend(handles=handles, loc="outside upper center", frameon=False, ncols=min(len(shown), 4))
    for entry in box.get_texts():
        entry.set_parse_math(False)
    for n, (verdict, line) in enumerate(lines):
        y = 1 - (n + 0.7) / (len(lines) + 0.4)
        below.text(0.01, y, line, color=_COLOURS[verdict], fontsize=9, va="center", parse_math=False)
    return figure


def write_figure(path: Path, figure: Figure) -> None:
    """As a PNG file; errors as for `atomic_write`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())


def _grey(axes: Axes, sites: Mapping[str, Fingerprint]) -> None:
    """The first channel, all voxels as a line and labelled ones dashed."""
    bins = None
    for n, one in enumerate(sites.values()):
        channel = one.channels[0] if one.channels else None
        if channel is None or channel.bins is None or not channel.grey:
            continue
        bins = channel.bins
        axes.step(bins.centres, channel.grey, where="mid", color=_colour(n), linewidth=1.6)
        if channel.tissue:
            axes.step(bins.centres, channel.tissue, where="mid", color=_colour(n), linewidth=1.0, linestyle="--")
    unit = (
        "Hounsfield units" if bins is not None and bins.unit == "raw" else "0.5 % to 99.5 % quantile of a scan = 0 to 1"
    )
    _titled(axes, "Grey values (dashed: labelled)", unit if bins is not None else "no histogram was told")


def _voxels(axes: Axes, sites: Mapping[str, Fingerprint]) -> None:
    """Median and 5 to 95 % of the voxel size along each axis."""
    for n, one in enumerate(sites.values()):
        for axis, sketch in enumerate(one.spacing_mm or ()):
            x = axis + 0.1 * (n - (len(sites) - 1) / 2)
            axes.plot([x, x], [sketch.values[0], sketch.values[-1]], color=_colour(n), linewidth=1.2)
            axes.plot(x, sketch.median, "o", color=_colour(n))
    axes.set_xticks(range(3), _AXES)
    axes.set_xlim(-0.6, 2.6)
    axes.set_ylim(bottom=0)
    _titled(axes, "Voxels, mm (5 to 95 %)", "")


def _places(axes: Axes, sites: Mapping[str, Fingerprint]) -> None:
    """Centres of structures from the body's, seen from the front: the patient's right at the left."""
    numbers = {key: n for n, key in enumerate(_structures(sites), 1)}
    middle, low = PROBS.index(0.5), PROBS.index(0.25)
    high = PROBS.index(0.75)
    for n, one in enumerate(sites.values()):
        for structure in one.structures:
            if structure.offset_mm is None or canonical(structure) not in numbers:
                continue
            x, _, z = (np.array(axis.values) for axis in structure.offset_mm)
            axes.plot([x[low], x[high]], [z[middle]] * 2, color=_colour(n), linewidth=0.8)
            axes.plot([x[middle]] * 2, [z[low], z[high]], color=_colour(n), linewidth=0.8)
            number = str(numbers[canonical(structure)])
            axes.text(x[middle], z[middle], number, color=_colour(n), fontsize=11, weight="bold")
    axes.invert_xaxis()
    axes.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    _titled(axes, "Where structures lie (from the front)", "R   mm from the body's middle   L")
    axes.set_ylabel("I   mm   S")


def _labels(axes: Axes, sites: Mapping[str, Fingerprint]) -> None:
    """A dot where a structure is labelled, as large as the share of cases that have it."""
    keys = _structures(sites)
    for n, one in enumerate(sites.values()):
        for structure in one.structures:
            key = canonical(structure)
            if key in keys and structure.cases != 0:
                share = 0.3 if not structure.cases or not one.cases else structure.cases / one.cases
                axes.plot(n, keys.index(key), "o", color=_colour(n), markersize=3 + 7 * min(share, 1.0))
    names = [f"{n} {name[:40]}" for n, name in enumerate(_names(sites), 1)]
    axes.set_yticks(range(len(keys)), names, fontsize=9, parse_math=False)
    axes.set_ylim(len(keys) - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_xlim(-0.7, len(sites) - 0.3)
    _titled(axes, "What is labelled (size: share of cases)", "")


def _structures(sites: Mapping[str, Fingerprint]) -> list[str]:
    return list(dict.fromkeys(canonical(row) for one in sites.values() for row in one.structures))[:_STRUCTURES]


def _names(sites: Mapping[str, Fingerprint]) -> list[str]:
    first: dict[str, str] = {}
    for one in sites.values():
        for row in one.structures:
            first.setdefault(canonical(row), row.name)
    return [first[key] for key in _structures(sites)]


def _lines(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """What was found, wrapped, cut where it would fill the picture."""
    lines: list[tuple[str, str]] = []
    for one in findings:
        text = f"{one.verdict}  {one.site}: {one.what}  -> {one.mend}"
        lines += [(one.verdict, line) for line in textwrap.wrap(text, _WIDTH, subsequent_indent="      ")]
    if len(lines) > 2 * _LINES:
        lines = [*lines[: 2 * _LINES - 1], ("note", f"{len(lines) - 2 * _LINES + 1} more lines stand in the table")]
    return lines or [("note", "nothing was found that sets a site apart")]


def _legend(name: str, one: Fingerprint) -> str:
    return f"{name} ({one.cases} cases)" if one.cases else f"{name} (too few cases to say)"


def _titled(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)


def _colour(n: int) -> tuple[float, float, float]:
    red, green, blue = PALETTE[n % len(PALETTE)]
    return red / 255, green / 255, blue / 255
