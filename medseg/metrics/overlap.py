"""Overlap and volumes of structures, read out of one contingency table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.metrics.contingency import Contingency, contingency
from medseg.metrics.structures import Labels, Status, status_of, structures

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence


@dataclass(frozen=True)
class Overlap:
    """How far a structure of the prediction covers that of the reference.

    With TP, FP and FN voxels: Dice (1945) = 2 TP / (2 TP + FP + FN), IoU (Jaccard, 1901) = TP / (TP + FP + FN),
    precision = TP / (TP + FP), recall = TP / (TP + FN). Both empty: all 1; one empty: all 0.

    Args:
        status: see `medseg.metrics.structures.Status`.
        tp: voxels in both.
        fp: voxels of the prediction alone.
        fn: voxels of the reference alone.
        voxel_ml: volume of one voxel, mL.
    """

    status: Status
    tp: int
    fp: int
    fn: int
    voxel_ml: float

    @property
    def dice(self) -> float:
        """In [0, 1]."""
        return self._share(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """In [0, 1]."""
        return self._share(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """In [0, 1]."""
        return self._share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """In [0, 1]."""
        return self._share(self.tp, self.tp + self.fn)

    @property
    def pred_ml(self) -> float:
        """Volume in the prediction, mL."""
        return (self.tp + self.fp) * self.voxel_ml

    @property
    def ref_ml(self) -> float:
        """Volume in the reference, mL."""
        return (self.tp + self.fn) * self.voxel_ml

    def rows(self) -> Iterator[tuple[str, float]]:
        """(name of the metric, value)."""
        yield from (("dice", self.dice), ("iou", self.iou), ("precision", self.precision), ("recall", self.recall))
        yield from (("volume_pred_ml", self.pred_ml), ("volume_ref_ml", self.ref_ml))
        yield "volume_difference_ml", (self.fp - self.fn) * self.voxel_ml

    def _share(self, part: int, whole: int) -> float:
        if self.status == "ok":
            return part / whole
        return 1.0 if self.status == "both_empty" else 0.0


def overlap(table: Contingency, labels: Labels | None = None, *, voxel_ml: float) -> dict[Hashable, Overlap]:
    """Overlap of every structure.

    Args:
        table: of the prediction and the reference.
        labels: which structures, see `medseg.metrics.structures.Labels`; None: every value above 0 in either map.
        voxel_ml: volume of one voxel, mL (`Grid.voxel_ml`).
    """
    out = {}
    for key, values in structures(labels, (table.pred_values, table.ref_values)).items():
        in_pred, in_ref = np.isin(table.pred_values, values), np.isin(table.ref_values, values)
        n_pred, n_ref = int(table.pred_sizes[in_pred].sum()), int(table.ref_sizes[in_ref].sum())
        tp = int(table.count[in_pred[table.index[:, 0]] & in_ref[table.index[:, 1]]].sum())
        out[key] = Overlap(status_of(n_pred, n_ref), tp, n_pred - tp, n_ref - tp, float(voxel_ml))
    return out


def overlap_metrics(
    pred: np.ndarray, ref: np.ndarray, labels: Labels | None = None, *, spacing_mm: Sequence[float]
) -> dict[Hashable, Overlap]:
    """`overlap` of two label maps (I, J, K) with this spacing along the array axes."""
    return overlap(contingency(pred, ref), labels, voxel_ml=float(np.prod(spacing_mm)) / 1000.0)


def confusion_matrix(table: Contingency, values: Sequence[int]) -> np.ndarray:
    """(V + 1, V + 1) int64 voxels: row the reference's value, column the prediction's, the last one for all others."""
    place = {int(value): n for n, value in enumerate(values)}
    if len(place) < len(values):
        msg = f"each value has one row, got {list(values)}"
        raise ValueError(msg)
    column = np.array([place.get(int(v), len(values)) for v in table.pred_values], np.int64)
    row = np.array([place.get(int(v), len(values)) for v in table.ref_values], np.int64)
    out = np.zeros((len(values) + 1, len(values) + 1), np.int64)
    np.add.at(out, (row[table.index[:, 1]], column[table.index[:, 0]]), table.count)
    return out
