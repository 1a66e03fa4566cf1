from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from medseg.labels import PALETTE, LabelTable
from medseg.reports.case_view import CaseView
from medseg.reports.structures import structure_table, structures_of
from medseg.volume import Volume
from tests.reports.demo_case import BLOB, CORE, DOUBT, demo_case


@pytest.mark.parametrize("kind", ["RAS", "LAS", "oblique"])
def test_places_are_where_the_model_is_least_sure(kind):
    blob, core, absent = structures_of(demo_case(kind))
    assert np.linalg.norm(np.array(core.place) - DOUBT) < 2
    assert absent.place is None
    assert np.linalg.norm(np.array(blob.place) - BLOB) < 2, "no entropy there: the centre"


@pytest.mark.parametrize("kind", ["RAS", "oblique"])
def test_without_maps_the_place_is_the_centre(kind):
    _, core, _ = structures_of(demo_case(kind, maps=False))
    assert np.linalg.norm(np.array(core.place) - CORE) < 1.5


def test_the_centre_of_a_ring_is_in_the_ring():
    x, y, _ = np.indices((21, 21, 5)) - 10
    ring = (np.abs(np.hypot(x, y) - 8) < 1.5).astype(np.uint8)
    volume = Volume(ring, np.eye(4))
    (found,) = structures_of(CaseView("x", volume, volume))
    assert ring[tuple(int(v) for v in found.place)] == 1
    assert found.name == "label 1"
    assert found.colour == PALETTE[0], "without a table nothing is a stranger"


@given(st.integers(0, 2**32 - 1))
def test_places_agree_with_a_search_of_the_whole_volume(seed):
    rng = np.random.default_rng(seed)
    labels = (rng.random((9, 8, 7)) > 0.8).astype(np.uint8)
    doubt = rng.random((9, 8, 7), dtype=np.float32)
    view = CaseView("x", Volume(labels, np.eye(4)), Volume(labels, np.eye(4)), {"entropy": doubt})
    found = structures_of(view)
    if not labels.any():
        assert found == []
        return
    near = ndimage.binary_dilation(labels > 0)
    place = tuple(int(v) for v in found[0].place)
    assert near[place]
    # In the middle of the volume, where no edge differs, the local mean is the largest of all.
    local = ndimage.uniform_filter(doubt, 3, mode="nearest")
    if all(1 < p < n - 2 for p, n in zip(place, labels.shape, strict=True)):
        core = np.zeros(near.shape, bool)
        core[2:-2, 2:-2, 2:-2] = True
        assert local[place] >= local[near & core].max() - 1e-5


def test_nested_regions_strangers_and_rows_without_labels():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[2:8, 2:8, 2:8] = 1
    labels[4:6, 4:6, 4:6] = 2
    labels[10, 10, 10] = 77
    table = LabelTable.from_json(
        [{"value": 1, "name": "whole", "region": [1, 2]}, {"value": 2, "name": "core"}, {"value": 4, "name": "gone"}]
    )
    rows = [{"structure": "whole", "value": 1, "volume_ml": 0.2}, {"structure": "elsewhere", "value": 5}]
    volume = Volume(labels, np.eye(4), labels=table)
    found = structures_of(CaseView("x", volume, volume, rows=rows))
    assert [s.name for s in found] == ["whole", "core", "gone", "label 77", "elsewhere"]
    assert found[0].values == (1, 2)
    assert found[3].place == (10, 10, 10)
    assert found[3].colour == (255, 255, 255)
    assert found[2].place is None
    assert found[0].row["volume_ml"] == 0.2


def test_the_table_says_what_is_known_and_escapes_names():
    view = demo_case()
    html = structure_table(structures_of(view), with_maps=True)
    assert "core &amp; shell" in html
    assert f"{view.rows[0]['volume_ml']:.2f} <small>± 0.02</small>" in html
    assert html.count('class="flag"') == 3
    assert "0.62" in html
    assert html.count("data-jump") == 2, "nothing leads to what is not there"
    plain = structure_table(structures_of(demo_case(maps=False)), with_maps=False)
    assert "Predicted Dice" not in plain
    assert "Volume" in plain


def test_rows_that_are_not_numbers_are_left_out():
    view = demo_case()
    rows = [dict(r) | {"predicted_dice": float("nan"), "entropy_inside": "n/a"} for r in view.rows]
    html = structure_table(structures_of(replace(view, rows=rows)), with_maps=True)
    assert "nan" not in html
    assert "Predicted Dice" not in html
