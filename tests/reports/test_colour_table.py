"""The uncertainty colours as 3D Slicer's file; Slicer reads it in test_scene_in_slicer.py."""

from __future__ import annotations

from itertools import pairwise

import matplotlib

from medseg.reports.colour_table import SIZE, colour_table_text, colours


def test_a_line_holds_index_name_and_four_numbers():
    lines = [line.split() for line in colour_table_text().splitlines() if not line.startswith("#")]
    assert [len(line) for line in lines] == [6] * SIZE
    assert [int(line[0]) for line in lines] == list(range(SIZE))
    assert len({line[1] for line in lines}) == SIZE
    assert [tuple(int(x) for x in line[2:5]) for line in lines] == colours()
    assert {line[5] for line in lines} == {"255"}
    assert colour_table_text().endswith("\n")


def test_colours_are_those_of_the_map_and_grow_lighter():
    expected = [tuple(round(x * 255) for x in matplotlib.colormaps["inferno"](n)[:3]) for n in range(256)]
    assert max(abs(a - b) for x, y in zip(colours(), expected, strict=True) for a, b in zip(x, y, strict=True)) <= 1
    luminance = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in colours()]
    assert all(a <= b + 0.5 for a, b in pairwise(luminance))
