"""From files' tables to what the network is given, and the average precision while it trains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine
from torch import nn

from medseg.inferers.instances.of_network import instances_of
from medseg.networks.detections import Detections
from medseg.networks.truth import BOX_ONLY, IGNORED
from medseg.readers import instance_table
from medseg.training import MaskAP, MaskPQ, MixedPrecisionInferer, prepare_instances
from medseg.training.instance_metric import scored


def labels() -> torch.Tensor:
    out = torch.zeros(1, 16, 16, 16, dtype=torch.int16)
    out[0, 1:5, 1:5, 1:5] = 1
    out[0, 8:14, 8:14, 8:14] = 2
    out[0, 0:4, 10:14, 0:4] = 3
    return out


def batch(flags=(0, 0, 0, 0), classes=(-1, 0, 1, 0)) -> dict[str, torch.Tensor]:
    return {
        "image": torch.zeros(1, 1, 16, 16, 16),
        "label": labels()[None],
        "classes": torch.tensor([classes]),
        "flags": torch.tensor([flags], dtype=torch.uint8),
    }


def detections(boxes, scores, classes) -> Detections:
    masks = torch.ones(len(boxes), 4, 4, 4)
    return Detections(torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores), torch.tensor(classes), masks)


ONE, TWO, THREE = [1, 1, 1, 5, 5, 5], [8, 8, 8, 14, 14, 14], [0, 10, 0, 4, 14, 4]
NOWHERE = [10, 0, 0, 14, 4, 4]


def ap(found: Detections, metric=None, **kinds) -> float:
    """As MONAI's evaluator computes it."""
    evaluator = Engine(lambda engine, one: one)
    (metric or MaskAP(0.5)).attach(evaluator, "metric")
    _, truth, _, _ = prepare_instances(batch(**kinds))
    return evaluator.run([{"pred": [found], "label": truth}]).metrics["metric"]


def test_flags_mean_the_same_on_disk_and_in_the_network():
    assert (instance_table.BOX_ONLY, instance_table.IGNORE) == (BOX_ONLY, IGNORED)


def test_a_batch_becomes_images_and_truth():
    images, truth, args, kwargs = prepare_instances(batch(flags=(0, 0, 1, 2)), "cpu")
    assert images.shape == (1, 1, 16, 16, 16)
    assert args == (truth,)
    assert kwargs == {}
    (one,) = truth
    assert one.boxes.tolist() == [ONE, TWO]
    assert one.classes.tolist() == [0, 1]
    assert one.has_mask.tolist() == [True, False]
    assert one.ignored_ids.tolist() == [3]


def test_average_precision_by_hand():
    everything = detections([ONE, TWO, THREE], [0.9, 0.8, 0.7], [0, 1, 0])
    assert ap(everything) == 1
    # class 0: hit, miss, hit: precision 1 up to recall 1/2, then 2/3; class 1: nothing found
    some = detections([ONE, NOWHERE, THREE], [0.9, 0.8, 0.7], [0, 0, 0])
    assert ap(some) == pytest.approx((51 / 101 + 50 / 101 * 2 / 3 + 0) / 2)
    wrong_class = detections([ONE, TWO, THREE], [0.9, 0.8, 0.7], [1, 0, 1])
    assert ap(wrong_class) == 0


def test_panoptic_quality_by_hand():
    """Class 0: one pair of IoU 1, one missed, one superfluous; class 1: a mask of 5 x 6 x 6 in 6^3, IoU 5/6."""
    found = detections([ONE, NOWHERE, [8, 8, 8, 13, 14, 14]], [0.9, 0.8, 0.7], [0, 0, 1])
    assert ap(found, MaskPQ()) == pytest.approx((1 / (1 + 0.5 + 0.5) + 5 / 6) / 2)
    assert ap(found, MaskPQ(0.85)) == pytest.approx((1 / (1 + 0.5) + 0) / 2)
    assert ap(found, MaskPQ(0.95)) == 0
    assert MaskPQ().compute() != MaskPQ().compute()


def _one_of_two(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    mine = detections([ONE], [0.9], [0]) if rank == 0 else detections([NOWHERE], [0.8], [0])
    _, truth, _, _ = prepare_instances(batch())
    told = []
    for metric in (MaskAP(0.5), MaskPQ()):
        metric.update(([mine], truth))
        told.append(metric.compute())
    Path(folder, f"{rank}.json").write_text(json.dumps(told), encoding="utf-8")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_count_each_other_s_cases(tmp_path):
    """One finds one of its two of class 0, the other none and a wrong one; neither finds class 1."""
    mp.start_processes(_one_of_two, (str(tmp_path),), nprocs=2, start_method="spawn")
    metric, quality = MaskAP(0.5), MaskPQ()
    for found in (detections([ONE], [0.9], [0]), detections([NOWHERE], [0.8], [0])):
        _, truth, _, _ = prepare_instances(batch())
        metric.update(([found], truth))
        quality.update(([found], truth))
    wanted = [metric.compute(), quality.compute()]
    assert wanted == pytest.approx([26 / 101 / 2, 1 / (1 + 0.5 + 1.5) / 2])
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) == wanted


def test_what_lies_in_an_ignored_region_is_not_counted():
    everything = detections([ONE, TWO, THREE], [0.7, 0.8, 0.9], [0, 1, 0])
    assert ap(everything, flags=(0, 0, 0, 2)) == 1
    assert ap(everything, flags=(0, 0, 0, 3)) == 1
    assert ap(everything, flags=(0, 0, 0, 0)) == 1


def test_nothing_to_find_and_nothing_found():
    metric = MaskAP()
    assert metric.compute() != metric.compute()  # NaN: no class occurs


def test_mixed_precision_hands_other_results_on():
    class Finds(nn.Module):
        def forward(self, x):
            return [detections([ONE], [0.5], [0])]

    (found,) = MixedPrecisionInferer()(torch.zeros(1, 1, 4, 4, 4), Finds())
    assert isinstance(found, Detections)


def test_a_false_detection_counts_where_others_cover_it():
    """A lies on 0..3, B on 4..5, C on 6..9; F on 2..7 takes a part of each, and has no voxel of its own in a map."""
    one = torch.zeros(1, 1, 16, 16, 16, dtype=torch.int16)
    boxes = [[0, 0, 0, 4, 4, 4], [4, 0, 0, 6, 8, 4], [6, 0, 0, 10, 4, 4], [11, 11, 11, 15, 15, 15]]
    for value, (a, b, c, x, y, z) in enumerate(boxes):
        one[..., a:x, b:y, c:z] = value + 1
    case = batch() | {"label": one, "classes": torch.tensor([[-1, 0, 0, 0, 0]]), "flags": torch.zeros(1, 5)}
    _, truth, _, _ = prepare_instances(case)
    metric = MaskAP(0.5)
    found = detections([*boxes, [2, 0, 0, 8, 4, 4]], [0.9, 0.85, 0.8, 0.6, 0.7], [0] * 5)
    metric.update(([found], truth))
    assert metric.compute() == pytest.approx((76 + 25 * 4 / 5) / 101)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), ignore=st.booleans())
def test_overlaps_are_those_of_whole_volumes(seed, ignore):
    rng = np.random.default_rng(seed)
    low = rng.integers(-2, 12, (6, 3))
    boxes = np.concatenate([low, low + rng.integers(1, 9, (6, 3))], 1).astype(float) + rng.choice([0, 0.3], (6, 6))
    classes = rng.integers(0, 2, 6)
    found = Detections(
        torch.from_numpy(boxes).float(),
        torch.from_numpy(rng.permutation(6) / 6).float(),
        torch.from_numpy(classes),
        torch.from_numpy(rng.random((6, 3, 3, 3))).float(),
    )
    _, truth, _, _ = prepare_instances(batch(flags=(0, 0, 0, 2 if ignore else 0)))
    out = scored(found, truth[0])
    kept, labelled = instances_of(found, (16, 16, 16)), truth[0].labels.numpy()
    whole = np.zeros((len(kept), 16, 16, 16), bool)
    for n, mask in enumerate(kept.masks):
        (a, b, c), (x, y, z) = mask.low, mask.high
        whole[n, a:x, b:y, c:z] = mask.probability.numpy() >= 0.5
    told = [2 * (mask & (labelled != 3)).sum() > mask.sum() if ignore else True for mask in whole]
    for value, case in out.items():
        own = [n for n in range(len(kept)) if kept.classes[n] == value and told[n]]
        refs = truth[0].ids[truth[0].classes == value].tolist()
        assert case.scores.tolist() == kept.scores[own].tolist()
        table = np.zeros((len(own), len(refs)))
        table[tuple(case.overlaps.index.T)] = case.overlaps.iou
        brute = [[(whole[n] & (labelled == r)).sum() / (whole[n] | (labelled == r)).sum() for r in refs] for n in own]
        np.testing.assert_allclose(table, np.array(brute).reshape(table.shape))
