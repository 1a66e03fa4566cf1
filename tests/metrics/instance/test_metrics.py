import json
import math

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from medseg.metrics.instance import instance_metrics, pooled_rows
from tests.metrics.instance.oracles import blocks, ious, stardist

MM = (1.0, 1.0, 2.0)
MAPS = npst.arrays(np.int16, (2, 2, 6), elements=st.sampled_from([0, 1, 2, 3, 9]))


def measured(pred, ref, **options):
    scores = {int(v): 1 / int(v) for v in np.unique(pred) if v}
    return instance_metrics(pred, ref, spacing_mm=MM, **{"scores": scores, "definition": None, **options})


def test_rows_worked_by_hand():
    pred, ref = blocks((0, 4), (20, 22), (6, 10)), blocks((0, 5), (6, 9), (12, 15))
    found = dict(measured(pred, ref, iou=(0.5, 0.8), buckets_mm3={"small": (0, 8), "big": (8, math.inf)}).rows())
    assert found == pytest.approx({
        "n_pred": 3, "n_ref": 3, "pq": 1.55 / 3, "sq": 0.775, "rq": 2 / 3,
        "matched@0.5iou": 2, "n_superfluous@0.5iou": 1, "n_missed@0.5iou": 1,
        "precision@0.5iou": 2 / 3, "recall@0.5iou": 2 / 3, "f1@0.5iou": 2 / 3,
        "matched@0.8iou": 1, "n_superfluous@0.8iou": 2, "n_missed@0.8iou": 2,
        "precision@0.8iou": 1 / 3, "recall@0.8iou": 1 / 3, "f1@0.8iou": 1 / 3,
        "matched@0.5iou[small]": 1, "n_superfluous@0.5iou[small]": 1, "n_missed@0.5iou[small]": 1,
        "precision@0.5iou[small]": 1 / 2, "recall@0.5iou[small]": 1 / 2, "f1@0.5iou[small]": 1 / 2,
        "matched@0.5iou[big]": 1, "n_superfluous@0.5iou[big]": 0, "n_missed@0.5iou[big]": 0,
        "precision@0.5iou[big]": 1, "recall@0.5iou[big]": 1, "f1@0.5iou[big]": 1,
        "matched@0.8iou[small]": 0, "n_superfluous@0.8iou[small]": 1, "n_missed@0.8iou[small]": 2,
        "precision@0.8iou[small]": 0, "recall@0.8iou[small]": 0, "f1@0.8iou[small]": 0,
        "matched@0.8iou[big]": 1, "n_superfluous@0.8iou[big]": 1, "n_missed@0.8iou[big]": 0,
        "precision@0.8iou[big]": 1 / 2, "recall@0.8iou[big]": 1, "f1@0.8iou[big]": 2 / 3,
        "ap@0.5iou": (34 + 33 * 2 / 3) / 101, "ap@0.8iou": 34 / 101,
        "map@0.1:0.5iou": (34 + 33 * 2 / 3) / 101, "map@0.5:0.95iou": (6 * (34 + 33 * 2 / 3) + 34) / 1010,
        "dice_matched@0.5iou": (8 / 9 + 6 / 7) / 2,
    })  # fmt: skip


def test_outlines_are_measured_in_mm():
    pred, ref = blocks((0, 4), (6, 9)), blocks((0, 4), (6, 10), (20, 22))
    found = measured(pred, ref, definition="border")
    assert dict(found.rows())["hd95_matched_mm@0.5iou"] == pytest.approx((0 + 1.7) / 2)  # of 0, 0, 0 and 2 mm
    assert [i.hd95_mm for i in found.instances] == pytest.approx([0, 1.7, math.inf])


@pytest.mark.parametrize(("pred", "ref", "status", "score"), [
    (blocks(), blocks(), "both_empty", 1.0),
    (blocks((0, 2)), blocks(), "ref_empty", 0.0),
    (blocks(), blocks((0, 2)), "pred_empty", 0.0),
])  # fmt: skip
def test_maps_without_instances(pred, ref, status, score):
    found = measured(pred, ref, buckets_mm3={"all": (0, math.inf)}, definition="border")
    rows = dict(found.rows())
    assert found.status == status
    named = ("pq", "sq", "rq", "f1@0.5iou", "precision@0.5iou", "recall@0.5iou", "ap@0.5iou", "map@0.1:0.5iou")
    assert [rows[name] for name in named] == [score] * len(named)
    assert "dice_matched@0.5iou" not in rows
    assert ("f1@0.5iou[all]" in rows) == (status != "both_empty")


@given(MAPS, MAPS, st.booleans())
def test_every_row_is_a_finite_number(pred, ref, with_scores):
    options = {} if with_scores else {"scores": None}
    found = measured(pred, ref, iou=(0.1, 0.5), buckets_mm3={"small": (0, 6), "big": (6, math.inf)}, **options)
    rows = [*found.rows(), *pooled_rows([found, found])]
    assert all(type(value) is float and math.isfinite(value) for _, value in rows)
    assert any(name.startswith("ap@") for name, _ in rows) == with_scores


def test_many_cases_pool_their_instances():
    """TP, FP, FN are summed; at .9 a hit, at .8 a false positive in the case without lesions, at .5 a hit."""
    cases = [
        instance_metrics(blocks((0, 4), (6, 9)), blocks((0, 4), (6, 10)), spacing_mm=MM, scores={1: 0.9, 2: 0.5}),
        instance_metrics(blocks((0, 4)), blocks(), spacing_mm=MM, scores={1: 0.8}),
        instance_metrics(blocks(), blocks((0, 4)), spacing_mm=MM, scores={}),
    ]
    rows = dict(pooled_rows(cases))
    assert rows["f1@0.5iou"] == pytest.approx(2 / 3)
    assert rows["pq"] == pytest.approx(1.75 / 3)
    assert rows["ap@0.5iou"] == pytest.approx((34 + 33 * 2 / 3) / 101)
    for rule in ("0.5iou", "centre"):  # one false positive in three scans
        assert rows[f"sensitivity_0.125fp@{rule}"] == pytest.approx(1 / 3)
        assert rows[f"sensitivity_1fp@{rule}"] == pytest.approx(2 / 3)
        assert rows[f"cpm@{rule}"] == pytest.approx((2 * 1 / 3 + 5 * 2 / 3) / 7)


def test_a_case_alone_is_what_it_is_pooled_with_none():
    case = measured(blocks((0, 4), (6, 9), (20, 22)), blocks((0, 5), (6, 10)))
    pooled = dict(pooled_rows([case]))
    assert {name: pooled[name] for name, _ in case.rows() if not name.startswith("dice")} == {
        name: value for name, value in case.rows() if not name.startswith("dice")
    }


@pytest.mark.parametrize("options", [{"spacing_mm": (1, 1)}, {"spacing_mm": (1, 0, 1)}, {"iou": ()}])
def test_no_spacing_and_no_threshold_are_refused(options):
    with pytest.raises(ValueError, match="three spacings above 0 mm and one IoU threshold or more"):
        instance_metrics(blocks(), blocks(), **{"spacing_mm": MM, **options})


def test_cases_measured_otherwise_are_not_pooled():
    case = measured(blocks((0, 2)), blocks((0, 2)))
    for others in (
        [],
        [case, measured(blocks(), blocks(), iou=(0.3,))],
        [case, measured(blocks(), blocks(), scores=None)],
    ):
        with pytest.raises(ValueError, match="one case or more are pooled, with the same thresholds"):
            list(pooled_rows(others))


@pytest.mark.parametrize("name", ["matched_instance", "unmatched_instance"])
def test_published_matching_of_a_spine(data, name):
    vectors = json.loads((data("metric_vectors") / "vectors_dev.json").read_text(encoding="utf-8"))["instance"]
    expected = next(v for v in vectors if v["name"] == f"panoptica_spine_{name}")
    folder = data("instances_misc") / "panoptica_spine" / name
    pred, ref = (nib.load(folder / f"{side}.nii.gz") for side in ("pred", "ref"))
    found = instance_metrics(
        *(np.asanyarray(image.dataobj).astype(np.int32) for image in (pred, ref)),
        spacing_mm=ref.header.get_zooms(),
        definition=None,
    )
    counts = found.panoptic
    assert (counts.tp, counts.fp, counts.fn) == (expected["tp"], expected["fp"], expected["fn"])
    assert [counts.sq, counts.rq, counts.pq] == pytest.approx([expected["sq"], expected["rq"], expected["pq"]])
    pairs = [(i.ref_id, i.pred_id, i.iou) for i in found.instances if i.status == "ok"]
    assert [pair[:2] for pair in pairs] == [tuple(match[:2]) for match in expected["matches"]]
    assert [pair[2] for pair in pairs] == pytest.approx([match[2] for match in expected["matches"]])


def test_nuclei_against_a_disturbed_copy(data):
    from skimage.io import imread

    ref = imread(data("instances_misc") / "stardist_nuclei" / "mask3d.tif").astype(np.int32)
    rng = np.random.default_rng(0)
    pred = np.roll(ref, (1, 2, 1), (0, 1, 2))
    pred[np.isin(pred, rng.choice(np.unique(ref)[1:], 9, replace=False))] = 0  # missed
    pred[pred == pred[pred > 0][0]] = ref.max() + 7  # a number of its own
    table = ious(pred, ref)
    found = measured(pred, ref, iou=(0.3, 0.5, 0.7))
    for threshold, matching in found.matchings.items():
        expected = stardist(table, threshold)
        assert {name: getattr(matching.counts, name) for name in expected} == pytest.approx(expected)
    assert dict(found.rows())["n_ref"] == 51
