"""What benches of the phantom bundle have in common: its weights, and volumes that no training has seen, made here.

MEDSEG_BUNDLE names another bundle or run than the shipped one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from phantoms import make  # noqa: E402

from medseg.boxes.crops import Crop  # noqa: E402
from medseg.bundle.load import load_bundle  # noqa: E402
from medseg.inferers.instances.found import INSIDE  # noqa: E402

if TYPE_CHECKING:
    from medseg.inferers.instances.found import Instances

# Seeds that `scripts/phantom` gives to no training set of seed 0 to 9.
FIRST_SEED = 5_000_000
PRESETS = ("shapes", "crowded", "parallel", "border", "tiny")
# Mask IoU from which a detection is a true one.
TRUE_IOU = 0.5


def opened():
    """The network and the inferer of the bundle."""
    bundle = load_bundle(os.environ.get("MEDSEG_BUNDLE", "phantom_instance_segmentation"))
    return bundle.network.eval(), bundle.inferer


def volumes(preset: str, count: int, size: int | tuple[int, int, int] = 48):
    """(image (1, 1, D, H, W), reference map) of fresh volumes of 1 mm."""
    for n in range(count):
        made = make(preset, FIRST_SEED + n, size)
        image = torch.from_numpy(made.image)
        yield ((image - image.mean()) / image.std())[None, None], made.instances.astype(np.int64)


def crops(found: Instances) -> list[Crop]:
    return [Crop(mask.low, (mask.probability >= INSIDE).cpu()) for mask in found.masks]


def row(case: str, peer: str, ours: float, theirs: float, *, less: bool = False) -> dict:
    over, under = (theirs, ours) if less else (ours, theirs)
    ratio = over / under if under else float("inf")
    return {"case": case, "peer": peer, "ratio": ratio, "medseg": ours, "theirs": theirs, "unit": ""}
