"""medseg's exact metrics as MONAI metrics, so that a bundle validates with the numbers that `medseg evaluate` reports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric

from medseg.metrics.contingency import contingency
from medseg.metrics.overlap import overlap
from medseg.metrics.surface import surface_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class ExactMetric(CumulativeIterationMetric):
    """One metric of `medseg evaluate`, case by case and structure by structure.

    Use it in a bundle inside MONAI's handler:

        {"_target_": "IgniteMetricHandler", "metric_fn": {"_target_": "medseg.training.ExactMetric", "metric": "hd95_mm"},
         "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"}

    Both empty counts as perfect and one empty as the worst: overlap 0, and the image's diagonal for a distance.
    (MONAI 1.6.1 leaves such cases out: three cases of which two predictions are empty have a mean HD95 of 0 there.)

    Args:
        metric: a name from cases.csv, such as 'dice', 'hd95_mm', 'assd_mm', 'nsd@1mm', 'boundary_iou@2mm'.
        definition: of surfaces, see `medseg.metrics.surface`.
        spacing_mm: of the voxels (D, H, W); None: from the affine of the label or the prediction.
        structures: how many there are; None: one less than channels, or the largest value in a batch of label maps
            without channels. Set it for these: batches that hold different values cannot be put together.

    Raises:
        ValueError: no such metric, or one without a spacing.
    """

    def __init__(
        self,
        metric: str = "dice",
        definition: str = "border",
        spacing_mm: Sequence[float] | None = None,
        structures: int | None = None,
    ) -> None:
        super().__init__()
        self.metric = metric
        self.definition = definition
        self.spacing_mm = spacing_mm
        self.structures = structures

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs) -> Tensor:  # noqa: ARG002
        """(B, C, D, H, W) one-hot or (B, 1, D, H, W) labels -> (B, S) values of S = C - 1 structures."""
        if y is None:
            msg = "an exact metric compares two maps, got no reference"
            raise ValueError(msg)
        structures = self.structures or max(y_pred.shape[1] - 1, y.shape[1] - 1) or int(max(y_pred.max(), y.max()))
        rows = [self._case(p, r, structures) for p, r in zip(y_pred, y, strict=True)]
        return torch.tensor(rows, dtype=torch.float32, device=y_pred.device).reshape(len(rows), structures)

    def aggregate(self) -> Tensor:
        """Mean over all cases and structures."""
        buffer = self.get_buffer()
        if not isinstance(buffer, torch.Tensor) or not buffer.numel():
            msg = "nothing was scored yet"
            raise ValueError(msg)
        return buffer.double().mean()

    def _case(self, pred: Tensor, ref: Tensor, structures: int) -> list[float]:
        spacing = self._spacing(pred, ref)
        pred_map, ref_map = _labels(pred), _labels(ref)
        values = range(1, structures + 1)
        diagonal = math.hypot(*(n * mm for n, mm in zip(ref_map.shape, spacing, strict=True)))
        found: dict = overlap(contingency(pred_map, ref_map), values, voxel_ml=float(np.prod(spacing)) / 1000.0)
        if self.metric not in dict(found[1].rows() if structures else ()):
            found = surface_metrics(
                pred_map, ref_map, spacing_mm=spacing, labels=values, **_surface_options(self.metric, self.definition)
            )
        out = [dict(found[v].rows()).get(self.metric, math.nan) for v in values]
        if any(math.isnan(v) for v in out):
            msg = f"there is no metric {self.metric!r}; it is named as in cases.csv, such as dice, hd95_mm or nsd@1mm"
            raise ValueError(msg)
        return [v if math.isfinite(v) else diagonal for v in out]

    def _spacing(self, pred: Tensor, ref: Tensor) -> tuple[float, ...]:
        if self.spacing_mm is not None:
            return tuple(float(s) for s in self.spacing_mm)
        for tensor in (ref, pred):
            if isinstance(tensor, MetaTensor):
                return tuple(float(s) for s in np.linalg.norm(np.asarray(tensor.affine)[:3, :3], axis=0))
        msg = "the spacing is not known: keep the metadata of the label (a MetaTensor), or set spacing_mm"
        raise ValueError(msg)


def _labels(tensor: Tensor) -> np.ndarray:
    """(C, D, H, W) one-hot or (1, D, H, W) labels -> (D, H, W) uint8 or larger."""
    array = tensor.detach().cpu().numpy()
    labels = array.argmax(0) if len(array) > 1 else np.rint(array[0]).astype(np.int64)
    return labels.astype(np.min_scalar_type(int(labels.max(initial=0))))


def _surface_options(metric: str, definition: str) -> dict:
    """What to ask of `surface_metrics` so that it measures this one."""
    options: dict = {"definition": definition, "percentiles": (), "tolerances_mm": ()}
    name, at, number = metric.partition("@")
    try:
        if at:
            return options | {"tolerances_mm": (float(number.removesuffix("mm")),)}
        if name.startswith("hd") and name != "hd_mm":
            return options | {"percentiles": (float(name.removeprefix("hd").removesuffix("_mm")),)}
    except ValueError:
        pass  # told as an unknown metric by the caller
    return options
