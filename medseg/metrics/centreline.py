"""Centreline Dice (clDice) for vessels, airways and other tubes: is the tree found, whatever the width of its branches?

Shit et al., CVPR 2021: the share of the prediction's skeleton that lies in the reference (topology precision), the
share of the reference's skeleton that lies in the prediction (topology sensitivity), and their harmonic mean. The
skeleton is Lee's 3D thinning (scikit-image), made on the voxel grid: resample strongly anisotropic scans first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cc3d
import edt
import numpy as np
from skimage.morphology import skeletonize

from medseg.metrics.contingency import contingency
from medseg.metrics.structures import Labels, Status, status_of, structures

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator


@dataclass(frozen=True)
class Centreline:
    """How well a tube's course was found; both empty: all 1, one empty: all 0.

    Args:
        status: see `medseg.metrics.structures.Status`.
        precision: share of the prediction's skeleton inside the reference, in [0, 1].
        sensitivity: share of the reference's skeleton inside the prediction, in [0, 1].
    """

    status: Status
    precision: float
    sensitivity: float

    @property
    def cldice(self) -> float:
        """Harmonic mean of the two, in [0, 1]."""
        total = self.precision + self.sensitivity
        return 2 * self.precision * self.sensitivity / total if total else 0.0

    def rows(self) -> Iterator[tuple[str, float]]:
        """(name of the metric, value)."""
        yield "cldice", self.cldice
        yield from (("topology_precision", self.precision), ("topology_sensitivity", self.sensitivity))


def centreline_metrics(
    pred: np.ndarray, ref: np.ndarray, *, labels: Labels | None = None
) -> dict[Hashable, Centreline]:
    """Centreline Dice of every structure.

    Args:
        pred: (I, J, K) of any integer dtype or bool.
        ref: the same shape.
        labels: which structures, see `medseg.metrics.structures.Labels`; None: every value above 0 in either map.

    Raises:
        ValueError: the shapes differ.
        TypeError: a map does not hold integers.
    """
    table = contingency(pred, ref)
    out = {}
    for key, values in structures(labels, (table.pred_values, table.ref_values)).items():
        boxes = [
            table.pred_boxes[np.isin(table.pred_values, values)],
            table.ref_boxes[np.isin(table.ref_values, values)],
        ]
        status = status_of(len(boxes[0]), len(boxes[1]))
        if status != "ok":
            out[key] = Centreline(status, *[float(status == "both_empty")] * 2)
            continue
        around = np.concatenate(boxes)
        box = tuple(slice(a, b) for a, b in zip(around[..., 0].min(0), around[..., 1].max(0), strict=True))
        p, r = (np.isin(array[box], values) for array in (pred, ref))
        out[key] = Centreline(status, _inside(p, r), _inside(r, p))
    return out


def _inside(tube: np.ndarray, other: np.ndarray) -> float:
    """Share of the skeleton of `tube` that lies in `other`."""
    line = skeleton(tube)
    return float((line & other).sum() / line.sum())


def skeleton(mask: np.ndarray) -> np.ndarray:
    """(I, J, K) bool, the skeleton of a mask; every component has at least one voxel in it.

    Thinning wears some blobs away altogether (a plate of 4 x 4 voxels): their innermost voxel stands for them then.
    """
    line = skeletonize(np.pad(mask, 1))[1:-1, 1:-1, 1:-1] > 0
    parts = cc3d.connected_components(mask, connectivity=26)
    kept = np.unique(parts[line])
    for lost in np.setdiff1d(np.unique(parts[parts > 0]), kept):
        depth = edt.edt(parts == lost, black_border=True)
        line[np.unravel_index(depth.argmax(), depth.shape)] = True
    return line
