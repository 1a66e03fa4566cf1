"""nnDetection's toy task: cubes with and without a channel, learnt from masks, and from masks of only half of them.

Trains the phantom recipe twice, half an hour each at most, and scores both on volumes that neither has seen.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
from trained import ROOT, folders, medseg, pooled, read, row, train

if TYPE_CHECKING:
    from pathlib import Path

MINUTES = 25
CLASSES = ("cube", "cube with channel")
BOX_ONLY = {"masks of all": 0.0, "masks of half": 0.5}


def rows(quick: bool = False) -> list[dict]:
    found = {}
    with folders() as (runs, work):
        recipe = write_recipe(work / "recipe")
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


def write_recipe(out: Path) -> Path:
    """The phantom recipe for the two classes of cubes."""
    shutil.copytree(
        ROOT / "bundles" / "phantom_instance_segmentation", out, ignore=shutil.ignore_patterns("*.pt", "*.safetensors")
    )
    for name in ("train", "inference"):
        file = out / "configs" / f"{name}.json"
        config = read(file)
        config["network_def"]["classes"] = len(CLASSES)
        config["labels"] = [label | {"name": name} for label, name in zip(config["labels"], CLASSES, strict=False)]
        for step in config.get("train", {}).get("deterministic_transforms", ()):
            if "num_classes" in step:
                step["num_classes"] = len(CLASSES)
        config.pop("domain", None)
        file.write_text(json.dumps(config))
    return out


def mean(scores: dict[str, dict[str, dict]], metric: str) -> float:
    """Over the classes; the row of all of them together apart."""
    return float(np.mean([rows[metric]["value"] for name, rows in scores.items() if name != "all instances"]))
