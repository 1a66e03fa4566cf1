"""A draw gives what the cases give when each really occurs as often."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.metrics.instance import Described, detection, pooled_detection_rows, pooled_statistic, scene
from tests.metrics.instance.oracles import blocks

METRICS = (
    "pq", "sq", "rq", "f1@0.1iou", "precision@0.5iou", "recall@0.5iou", "ap@0.1iou", "ap@0.5iou", "box_ap@0.5iou",
    "map@0.1:0.5iou", "map@0.5:0.95iou", "ar@0.1:0.5iou", "ar@0.5:0.95iou", "cpm@0.1iou", "cpm@centre",
)  # fmt: skip


def random_case(random, ties):
    """Blocks of a reference, found, missed, moved, doubled or made up."""
    ref, pred, scores = np.zeros((1, 1, 60), np.int16), np.zeros((1, 1, 60), np.int16), {}
    for number in range(1, 7):
        start = 10 * (number - 1)
        if random.random() < 0.6:
            ref[..., start : start + 6] = number
        if random.random() < 0.7:
            shift = random.integers(0, 5)
            pred[..., start + shift : start + shift + random.integers(2, 6)] = number
            scores[number] = float(random.integers(1, 4) / 4 if ties else random.random())
    found = scene(Described(pred, scores=scores), Described(ref))
    return detection(found, found.of([0], [0]), spacing_mm=(1, 1, 1), definition=None)


@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_a_draw_is_a_data_set(seed, times):
    random = np.random.default_rng(seed)
    cases = [random_case(random, ties=False) for _ in times]
    drawn = [case for case, n in zip(cases, times, strict=True) for _ in range(n)]
    rows = dict(pooled_detection_rows(drawn)) if drawn else {}
    for metric in METRICS:
        statistic = pooled_statistic(cases, metric)
        (value,) = statistic(np.array([times], np.float64))
        if drawn and metric in rows:
            assert value == pytest.approx(rows[metric], abs=1e-12), metric
        elif metric.startswith("cpm"):
            assert np.isnan(value)


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_as_they_are_with_equal_scores(seed, n):
    random = np.random.default_rng(seed)
    cases = [random_case(random, ties=True) for _ in range(n)]
    rows = dict(pooled_detection_rows(cases))
    for metric in METRICS:
        (value,) = pooled_statistic(cases, metric)(np.ones((1, n)))
        assert np.isnan(value) if metric not in rows else value == pytest.approx(rows[metric], abs=1e-12), metric


def test_the_example():
    hit = scene(Described(blocks((0, 4)), scores={1: 0.9}), Described(blocks((0, 4))))
    wrong = scene(Described(blocks((0, 4)), scores={1: 0.8}), Described(blocks((10, 14))))
    cases = [detection(s, s.of([0], [0]), spacing_mm=(1, 1, 1), definition=None) for s in (hit, wrong)]
    found = pooled_statistic(cases, "ap@0.5iou")(np.array([[1, 1], [2, 0], [0, 2]], np.float64))
    assert found.tolist() == pytest.approx([51 / 101, 1, 0])


@pytest.mark.parametrize(
    "metric",
    ["n_ref", "dice_matched@0.1iou", "map@0.3iou", "ap@0.1:0.5iou", "f1@0.3iou", "f1@centre", "matched@0.1iou"],
)
def test_metrics_without_a_statistic(metric):
    assert pooled_statistic([random_case(np.random.default_rng(0), ties=False)], metric) is None
