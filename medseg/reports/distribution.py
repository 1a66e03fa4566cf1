"""Every case a dot, with median and quartiles: one strip a structure, all strips of a metric on one axis.

Drawn as inline SVG with horizontal places in per cent, so that a strip fills whatever width it is given while dots
and letters keep their size. What has no end stands at a labelled edge, "inf (2)"; total failures, an overlap of 0, do
likewise where they would squeeze all other cases into a corner.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.metrics.table import direction
from medseg.reports.markup import text
from medseg.reports.numbers import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medseg.metrics.table import Aggregate

HEIGHT = 44
_MIDDLE = 22.0
#: Per cent of the width.
_EDGE, _MARGIN, _COLUMN = 15.0, 2.5, 1.2
#: Overlaps of 0 stand apart where all others are above this.
_APART = 0.25


@dataclass(frozen=True)
class Axis:
    """Where values lie on a strip.

    Args:
        low: finite value at the left.
        high: finite value at the right.
        ticks: values with a label.
        zero: whether 0 has an edge of its own at the left.
        minus_inf: whether minus infinity has (never together with `zero`).
        inf: whether infinity has one at the right.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    zero: bool
    minus_inf: bool
    inf: bool

    def place(self, value: float) -> float:
        """Per cent from the left; values off the axis lie at its end."""
        left = self.left_edge
        if value == math.inf:
            return 100 - _MARGIN
        if value == -math.inf or (self.zero and value == 0):
            return _MARGIN
        start = _EDGE if left else _MARGIN
        stop = 100 - (_EDGE if self.inf else _MARGIN)
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return start + share * (stop - start)

    @property
    def left_edge(self) -> bool:
        """Whether anything stands apart at the left."""
        return self.zero or self.minus_inf


def axis_of(values: Sequence[float], metric: str) -> Axis:
    """An axis on which all these values lie."""
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    zero = direction(metric) > 0 and bool((finite == 0).any()) and bool((finite > 0).any())
    zero = zero and float(finite.min()) == 0 and float(finite[finite > 0].min()) > _APART
    kept = finite[finite > 0] if zero else finite
    low, high = (float(kept.min()), float(kept.max())) if kept.size else (0.0, 1.0)
    if direction(metric) < 0:
        low = min(low, 0.0)
    elif direction(metric) > 0:
        high = max(high, 1.0)
    else:
        low, high = min(low, 0.0), max(high, 0.0)
    ticks = _ticks(low, high if high - low > 1e-9 * max(1.0, abs(low)) else low + max(1.0, abs(low)))
    return Axis(ticks[0], ticks[-1], ticks, zero, bool((array == -math.inf).any()), bool((array == math.inf).any()))


def strip(names: Sequence[str], values: Sequence[float], aggregate: Aggregate, axis: Axis, metric: str) -> str:
    """The cases of one structure as inline SVG.

    Args:
        names: of the cases; each shows when its dot is pointed at.
        values: one a case.
        aggregate: of them.
        axis: on which they lie.
        metric: for the digits of the numbers.
    """
    parts = [_line(axis.place(tick), "grid", 4, HEIGHT - 4) for tick in axis.ticks]
    parts += [_line(axis.place(0.0), "zero", 2, HEIGHT - 2)] if axis.low < 0 < axis.high else []
    q1, q3 = axis.place(aggregate.q1), axis.place(aggregate.q3)
    parts.append(
        f'<rect class="box" x="{q1:.2f}%" width="{max(q3 - q1, 0.3):.2f}%" y="{_MIDDLE - 11}" height="22" rx="2"/>'
    )
    bad = _at_edge(axis)
    for name, value, x, y in _dots(names, values, axis):
        mark = ' class="bad"' if value in bad else ""
        title = f"<title>{text(name)}: {shown(value, metric)}</title>"
        parts.append(f'<circle{mark} cx="{x:.2f}%" cy="{y:.1f}" r="3">{title}</circle>')
    parts.append(_line(axis.place(aggregate.median), "median", _MIDDLE - 14, _MIDDLE + 14))
    parts += _edges(values, axis)
    words = f"{aggregate.n} cases, median {shown(aggregate.median, metric)}, quartiles "
    words += f"{shown(aggregate.q1, metric)} and {shown(aggregate.q3, metric)}"
    words += "".join(f", {n} at {shown(v, metric)}" for v, n in sorted(Counter(values).items()) if v in bad)
    return f'<svg class="strip" role="img" aria-label="{words}" width="100%" height="{HEIGHT}">{"".join(parts)}</svg>'


def scale(axis: Axis, metric: str) -> str:
    """The labels of the ticks, to stand below the strips."""
    digits = max((_digits(tick) for tick in axis.ticks), default=0)
    parts = []
    for tick in axis.ticks:
        x, label = axis.place(tick), f"{tick:.{digits}f}".replace("-", "−")
        parts.append(f'<text x="{x:.2f}%" y="11" text-anchor="middle">{label}</text>')
    words = f"axis from {shown(axis.low, metric)} to {shown(axis.high, metric)}"
    return f'<svg class="scale" role="img" aria-label="{words}" width="100%" height="15">{"".join(parts)}</svg>'


def _at_edge(axis: Axis) -> tuple[float, ...]:
    return (math.inf, -math.inf, *((0.0,) if axis.zero else ()))


def _dots(names: Sequence[str], values: Sequence[float], axis: Axis) -> Iterator[tuple[str, float, float, float]]:
    """(case, value, x in per cent, y): dots of one column stack up from the middle, closer where there are many."""
    columns: dict[int, list[tuple[str, float, float]]] = defaultdict(list)
    for name, value in zip(names, values, strict=True):
        x = axis.place(value)
        columns[int(x / _COLUMN)].append((name, value, x))
    for column in columns.values():
        step = min(6.0, 32.0 / len(column))
        for n, (name, value, x) in enumerate(column):
            side = 1 if n % 2 else -1
            yield name, value, x, _MIDDLE + side * step * ((n + 1) // 2)


def _edges(values: Sequence[float], axis: Axis) -> Iterator[str]:
    """What stands apart: its name with the number of cases, behind a dashed line."""
    found = Counter(values)
    for value, word, x, anchor in (
        (0.0 if axis.zero else -math.inf, "0" if axis.zero else "−inf", 0, "start"),
        (math.inf, "inf", 100, "end"),
    ):
        if value not in _at_edge(axis) or not (axis.inf if x else axis.left_edge):
            continue
        yield _line(abs(x - _EDGE * 0.72), "break", 2, HEIGHT - 2)
        if found[value]:
            yield f'<text class="edge" x="{x}%" y="{HEIGHT - 1}" text-anchor="{anchor}">{word} ({found[value]})</text>'


def _line(x: float, kind: str, top: float, bottom: float) -> str:
    return f'<line class="{kind}" x1="{x:.2f}%" x2="{x:.2f}%" y1="{top:g}" y2="{bottom:g}"/>'


def _ticks(low: float, high: float) -> tuple[float, ...]:
    """Four to seven round values that enclose low and high."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(n * step, 12) for n in range(first, last + 1))


def _digits(tick: float) -> int:
    return len(f"{tick:.6f}".rstrip("0").partition(".")[2])
