"""medseg's exact metrics as MONAI metrics, so that a bundle validates with the numbers that `medseg evaluate` reports."""

from __future__ import annotations

import contextlib
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
    from collections.abc import Hashable, Sequence

    from torch import Tensor

    from medseg.metrics.structures import Labels
    from medseg.metrics.surface import Definition


class MeanOfAll(CumulativeIterationMetric):
    """A metric whose values, (B, S) of each batch, are told as one mean."""

    def aggregate(self) -> Tensor:
        """Mean over all cases and structures."""
        buffer = self.get_buffer()
        if not isinstance(buffer, torch.Tensor) or not buffer.numel():
            msg = "nothing was scored yet"
            raise ValueError(msg)
        return buffer.double().mean()


class ExactMetric(MeanOfAll):
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
        definition: Definition = "border",
        spacing_mm: Sequence[float] | None = None,
        structures: int | None = None,
    ) -> None:
        super().__init__()
        self.metric = metric
        self.definition: Definition = definition
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

    def _case(self, pred: Tensor, ref: Tensor, structures: int) -> list[float]:
        spacing = self._spacing(pred, ref)
        values = range(1, structures + 1)
        found = exact_scores(_labels(pred), _labels(ref), spacing, values, (self.metric,), self.definition)
        return list(found[self.metric].values())

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


def exact_scores(
    pred: np.ndarray,
    ref: np.ndarray,
    spacing_mm: Sequence[float],
    labels: Labels,
    metrics: Sequence[str],
    definition: Definition = "border",
) -> dict[str, dict[Hashable, float]]:
    """The numbers of `medseg evaluate` of one case; surfaces are looked at once, and only where a metric is of them.

    Args:
        pred: (I, J, K) label map.
        ref: the same shape.
        spacing_mm: of the voxels along its axes.
        labels: which structures.
        metrics: names from cases.csv.
        definition: of surfaces.

    Returns:
        metric -> structure -> value; an infinite distance (one of the two is empty) is the image's diagonal.

    Raises:
        ValueError: there is no such metric.
    """
    diagonal = math.hypot(*(n * mm for n, mm in zip(ref.shape, spacing_mm, strict=True)))
    of_voxels = overlap(contingency(pred, ref), labels, voxel_ml=float(np.prod(spacing_mm)) / 1000.0)
    rows = {key: dict(one.rows()) for key, one in of_voxels.items()}
    of_surfaces = [name for name in metrics if not all(name in row for row in rows.values())]
    if of_surfaces:
        options = _surface_options(of_surfaces, definition)
        for key, one in surface_metrics(pred, ref, spacing_mm=spacing_mm, labels=labels, **options).items():
            rows[key] |= dict(one.rows())
    found = {name: {key: row.get(name, math.nan) for key, row in rows.items()} for name in metrics}
    for name, values in found.items():
        if any(math.isnan(value) for value in values.values()):
            msg = f"there is no metric {name!r}; it is named as in cases.csv, such as dice, hd95_mm or nsd@1mm"
            raise ValueError(msg)
    return {n: {k: v if math.isfinite(v) else diagonal for k, v in values.items()} for n, values in found.items()}


def _surface_options(metrics: Sequence[str], definition: Definition) -> dict:
    """What to ask of `surface_metrics` so that it measures these; what cannot be asked is told by the caller."""
    tolerances, percentiles = set(), set()
    for metric in metrics:
        name, at, number = metric.partition("@")
        with contextlib.suppress(ValueError):
            if at:
                tolerances.add(float(number.removesuffix("mm")))
            elif name.startswith("hd") and name != "hd_mm":
                percentiles.add(float(name.removeprefix("hd").removesuffix("_mm")))
    return {"definition": definition, "percentiles": sorted(percentiles), "tolerances_mm": sorted(tolerances)}
