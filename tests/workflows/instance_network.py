"""A network of instances whose right answer is known, and a scan for it.

It finds every connected piece that is brighter than 0.4 on a grid of 1 voxel, of class 0 up to 0.7 and 1 above, with a
score that is the piece's brightness. With `Dropping`, piece k is there in a sample if channel k is not dropped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from medseg.inferers import InstanceInferer
from medseg.labels import LabelTable
from medseg.networks.detections import Detections

if TYPE_CHECKING:
    from medseg.bundle.load import Bundle

CLASSES = LabelTable.from_json(
    [
        {"value": 1, "name": "dim", "category": ["SCT", "123037004", "Anatomical Structure"]},
        {"value": 2, "name": "bright", "type": ["SCT", "51282000", "Vertebra"]},
    ]
)


class Pieces(nn.Module):
    """Connected pieces above a threshold, in the order of their first voxel."""

    divisor = (1, 1, 1)

    def __init__(self, threshold: float = 0.4) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, images: torch.Tensor) -> list[Detections]:
        return [self.found(image) for image in images]

    def found(self, image: torch.Tensor) -> Detections:
        grey = image[0].float().cpu().numpy()
        pieces, _ = ndimage.label(grey > self.threshold)
        boxes = ndimage.find_objects(pieces)
        size = max((s.stop - s.start for box in boxes for s in box), default=1)
        masks = torch.zeros(len(boxes), size, size, size)
        level = [float(grey[pieces == n + 1].mean()) for n in range(len(boxes))]
        for n, box in enumerate(boxes):
            crop = torch.from_numpy((pieces[box] == n + 1).astype(np.float32))
            masks[n] = nn.functional.interpolate(crop[None, None], (size,) * 3, mode="nearest")[0, 0]
        edges = [[*(s.start for s in box), *(s.stop for s in box)] for box in boxes]
        return Detections(
            torch.tensor(edges, dtype=torch.float32).reshape(-1, 6),
            torch.tensor(level),
            torch.tensor([int(x > 0.7) for x in level], dtype=torch.int64),
            masks,
        )


class Dropping(Pieces):
    """Piece k is found if channel k of 8 is not dropped; counts how often the part before the dropout ran."""

    def __init__(self, p: float = 0.4) -> None:
        super().__init__()
        self.encoder = Counted()
        self.dropout = nn.Dropout(p)

    def forward(self, images: torch.Tensor) -> list[Detections]:
        (image,) = self.encoder(images)
        found = self.found(image)
        there = self.dropout(torch.ones(1, 8))[0, : len(found.boxes)] > 0
        return [Detections(*(getattr(found, name)[there] for name in ("boxes", "scores", "classes", "masks")))]


class Counted(nn.Module):
    """Passes an image on and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.times += 1
        return images * 1.0


def finding(bundle: Bundle, network: nn.Module | None = None, **inferer) -> Bundle:
    """A loaded bundle as one that finds instances."""
    made = InstanceInferer(**{"min_score": 0.3, "precision": "fp32", **inferer})
    steps = [step for step in bundle.postprocessing.transforms if type(step).__name__ == "RestoreGridd"]
    post = type(bundle.postprocessing)(steps)
    return replace(bundle, network=(network or Pieces()).eval(), inferer=made, postprocessing=post, labels=CLASSES)
