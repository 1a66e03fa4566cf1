"""nnDetection's toy task: cubes with and without a channel, learnt from masks, and from masks of only half of them.

Trains the phantom recipe twice, half an hour each at most, and scores both on volumes that neither has seen.
"""

from __future__ import annotations

import subprocess

import numpy as np
from trained import ROOT, folders, medseg, pooled, row, train

MINUTES = 25
BOX_ONLY = {"masks of all": 0.0, "masks of half": 0.5}


def rows(quick: bool = False) -> list[dict]:
    recipe = ROOT / "bundles" / "phantom_instance_segmentation"
    found = {}
    with folders() as (runs, work):
        for name, share in BOX_ONLY.items():
            data, run = work / name, runs / name.replace(" ", "_")
            counts = ("4", "2") if quick else ("100", "40")
            subprocess.run(
                [
                    ROOT / "scripts" / "phantom", "cubes", "-o", data, "--train", counts[0], "--test", counts[1],
                    "--box-only", str(share),
                ],
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            train(run, recipe, data, 1 if quick else MINUTES)
            medseg(
                "predict", data / "imagesTs", "-b", run, "-o", work / f"out {name}", "--no-views", "--outside-domain"
            )
            scores = work / f"scores {name}"
            medseg("evaluate", work / f"out {name}", data / "labelsTs", "-o", scores, "-c", "instances")
            found[name] = pooled(scores)
    out = []
    for metric, goal in {"ap@0.1iou": 0.95, "ap@0.5iou": 0.9}.items():
        value = {name: mean(scores, metric) for name, scores in found.items()}
        full, half = (value[name] for name in BOX_ONLY)
        out.append(row(f"{metric}, mean of the classes", "goal", full, goal))
        out.append(row(f"{metric}, half of the instances as boxes", "masks of all - 0.03", half, full - 0.03))
    return out


def mean(scores: dict[str, dict[str, dict]], metric: str) -> float:
    """Over the classes; the row of all of them together apart."""
    return float(np.mean([rows[metric]["value"] for name, rows in scores.items() if name != "all instances"]))
