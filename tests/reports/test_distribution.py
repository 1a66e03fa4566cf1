import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.metrics.table import Row, aggregate
from medseg.reports.distribution import axis_of, scale, strip

METRICS = st.sampled_from(["dice", "hd95_mm", "volume_difference_ml"])


def drawn(values, metric="hd95_mm", names=None):
    names = names or [f"c{n}" for n in range(len(values))]
    rows = [Row(c, c, "s", metric, "", v, "ok") for c, v in zip(names, values, strict=True)]
    return strip(names, values, aggregate(rows, dict.fromkeys(names, 9.0), draws=10), axis_of(values, metric), metric)


def places(svg: str) -> list[float]:
    return [float(x) for x in re.findall(r'<circle[^>]*cx="([\d.]+)%"', svg)]


@given(st.lists(st.floats(-1e3, 1e3) | st.just(math.inf), min_size=1, max_size=30), METRICS)
def test_every_case_is_a_dot_within_the_strip_and_in_order(values, metric):
    axis = axis_of(values, metric)
    at = [axis.place(v) for v in sorted(values)]
    assert at == sorted(at)
    assert 0 < at[0] <= at[-1] < 100
    finite = [v for v in values if math.isfinite(v) and not (axis.zero and v == 0)]
    assert all(axis.low - 1e-9 <= v <= axis.high + 1e-9 for v in finite)
    assert len(places(drawn(values, metric))) == len(values)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_an_axis_has_few_round_ticks(low, span):
    axis = axis_of([low, low + span], "volume_difference_ml")
    assert 3 <= len(axis.ticks) <= 8
    assert axis.ticks[0] <= min(low, 0) + 1e-9
    assert axis.ticks[-1] >= max(low + span, 0) - 1e-9


def test_infinite_distances_stand_at_a_labelled_edge_and_are_counted():
    svg = drawn([1.0, 2.0, math.inf, math.inf])
    assert "inf (2)" in svg
    assert svg.count('class="bad"') == 2
    assert "2 at inf" in re.search(r'aria-label="([^"]*)"', svg)[1]
    last = places(svg)
    assert last[2] == last[3] > max(last[:2]) + 10
    assert "inf" not in drawn([1.0, 2.0])


def test_quartiles_that_are_infinite_reach_the_edge():
    svg = drawn([1.0, math.inf, math.inf])
    x, width = (float(v) for v in re.search(r'class="box" x="([\d.]+)%" width="([\d.]+)%"', svg).groups())
    assert x + width > 95
    assert float(re.search(r'class="median" x1="([\d.]+)%"', svg)[1]) > 95


def test_infinite_either_way():
    svg = drawn([-math.inf, 0.5, math.inf], "volume_difference_ml")
    assert "−inf (1)" in svg
    assert places(svg) == sorted(places(svg))


def test_overlaps_of_nothing_stand_apart_only_where_they_would_squeeze_the_others():
    apart = axis_of([0.0, 0.8, 0.9], "dice")
    assert apart.zero
    assert apart.low > 0.5
    assert "0 (1)" in drawn([0.0, 0.8, 0.9], "dice")
    among = axis_of([0.0, 0.1, 0.9], "dice")
    assert not among.zero
    assert among.low == 0
    assert not axis_of([0.0, 0.0], "dice").zero
    assert axis_of([0.0, 3.0], "hd95_mm").low == 0


@pytest.mark.parametrize("values", [[0.5], [math.inf], [math.inf, math.inf], [0.0], [7.0] * 40])
def test_values_that_are_all_alike(values):
    assert len(places(drawn(values))) == len(values)
    assert "<text" in scale(axis_of(values, "hd95_mm"), "hd95_mm")


def test_names_of_cases_are_text():
    svg = drawn([1.0], names=['<b>&"'])
    assert "<b>" not in svg
    assert "&lt;b&gt;&amp;&quot;: 1.00" in svg


def test_dots_of_one_place_do_not_hide_each_other():
    svg = drawn([3.0] * 6 + [1.0])
    at = re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)"', svg)
    assert len(set(at)) == 7
