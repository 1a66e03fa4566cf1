"""A small evaluation in which everything goes wrong that can, for the tests of its page."""

from __future__ import annotations

import math

import numpy as np

from medseg.metrics.table import Row, summarise
from medseg.reports.evaluation import EvaluationReport, Figure, Picture

METRICS = ("dice", "hd95_mm", "nsd@1mm", "volume_difference_ml", "iou")
STRUCTURES = ("anterior", "posterior & <tail>")
#: Untrusted names: markup, quotes, and one long word that no line can hold.
HOSTILE = '<script>alert("1")</script>'
LONG = "case_" + "0123456789" * 9


def case_rows(n: int = 12, structures=STRUCTURES) -> list[Row]:
    """n cases: the third misses every structure, the fourth has no prediction."""
    rng = np.random.default_rng(0)
    names = [f"case_{k:03d}" for k in range(n)]
    names[0], names[1] = HOSTILE, LONG
    out = []
    for k, case in enumerate(names):
        status = {2: "pred_empty", 3: "pred_missing"}.get(k, "ok")
        for structure in structures:
            dice, hd = round(float(rng.uniform(0.7, 0.95)), 3), round(float(rng.uniform(1, 6)), 2)
            values = (dice, hd, round(dice**0.5, 3), round(float(rng.normal(0, 0.3)), 3), round(dice / (2 - dice), 3))
            if status != "ok":
                values = (0.0, math.inf, 0.0, -1.234, 0.0)
            for metric, value in zip(METRICS, values, strict=True):
                definition = "border" if metric.endswith("mm") else ""
                out.append(Row(case, case, structure, metric, definition, value, status))
    return out


def phantom(image: bool = True, axcodes: str = "RAS", empty: bool = False) -> Picture:
    """Reference at the patient's left and front, prediction 6 mm further to the right and 2 mm back."""
    from medseg.volume import Volume

    ref, pred = np.zeros((2, 40, 36, 24), np.uint8)
    ref[6:14, 20:28, 8:14] = 2
    if not empty:
        pred[12:20, 18:26, 8:14] = 2
    grey = np.random.default_rng(0).normal(100, 20, ref.shape).astype(np.float32)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    pred, ref, grey = (Volume(a, affine).reoriented(axcodes) for a in (pred, ref, grey))
    return Picture(
        LONG, STRUCTURES[0], "Dice 0.10", pred.array, ref.array, ref.affine, (2,), grey.array if image else None
    )


def report(n: int = 12, pictures: int = 1) -> EvaluationReport:
    rows = case_rows(n)
    svg = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="600" height="90"><path d="M0 0h600"/></svg>'
    return EvaluationReport(
        "Two <models>",
        rows,
        summarise(rows, {r.case: 60.0 for r in rows}, draws=200),
        facts={"prediction": "a & b", "definition": "border", LONG: LONG},
        missing=("case_003",),
        extra=("stranger",),
        failures=(("case_004", "MS-N101", "ends early: copy it again"),),
        notes=("label 7 is in 2 predictions (118 voxels) and in no reference",),
        pictures=(phantom(),) * pictures,
        figures=(Figure("Reliability", "40 cases added up", svg),),
        comparison=(
            {"structure": "anterior", "metric": "dice", "n": 12, "mean_difference": 0.021, "low": 0.01, "high": 0.03,
             "p": 0.00001, "p_holm": 0.2, "better": "prediction"},
            {"structure": "anterior", "metric": "iou", "n": 12, "mean_difference": 0.0},
            {"structure": "anterior", "metric": "hd95_mm", "definition": "border", "n": "12", "n_subjects": "9", "mean_difference": "inf", "low": "-0.5",
             "high": "inf", "p": "0.5", "p_holm": "1.0"},
        ),
        groups=(
            {"group": "site A", "structure": "anterior", "metric": "dice", "n": 7, "mean": 0.9, "low": 0.85,
             "high": 0.93, "is_worst": False, "gap": ""},
            {"group": "site B", "structure": "anterior", "metric": "dice", "n": 5, "mean": 0.8, "low": 0.7,
             "high": 0.86, "is_worst": True, "gap": 0.1},
        ),
    )  # fmt: skip
