"""Validation on whole scans: the numbers that `medseg predict` and `medseg evaluate` would give, by names in a recipe.

    "validate": {
        "postprocessing": {"_target_": "Compose", "transforms": [
            {"_target_": "medseg.training.ScanScoresd", "metrics": ["dice", "hd95_mm"], "labels": "@labels"}, ...]},
        "key_metric": {"_target_": "medseg.training.ScanMetrics", "metrics": ["dice"]},
        "evaluator": {..., "additional_metrics": {"_target_": "medseg.training.ScanMetrics", "metrics": ["hd95_mm"]}}
    }

MONAI's metrics see the network's grid: a label map that was resampled, and a prediction that nobody will get.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.handlers import IgniteMetricHandler
from monai.transforms import Transform

from medseg.errors import UsageError
from medseg.geometry import Grid
from medseg.readers.cases.pairing import on_grid_of, read_label, whole_numbers
from medseg.readers.options import ReadOptions
from medseg.training.metrics import MeanOfAll, exact_scores
from medseg.transforms import RestoreGridd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from medseg.metrics.surface import Definition

#: Where `ScanScoresd` puts them.
KEY = "scan_scores"


class ScanScoresd(Transform):
    """Score a prediction on the scan's own grid against the label map as its file holds it; the first of `postprocessing`.

    Args:
        metrics: names from cases.csv, such as 'dice', 'nsd@1mm', 'hd95_mm'; surfaces cost time only where one is named.
        labels: of the structures, as in the bundle: `{"name", "value"}` each, or `"region"` for its values.
        definition: of surfaces, see `medseg.metrics.surface`.
        pred: key of the logits on the network's grid.
        ref: key of the image, which went through `medseg.transforms.ToNetworkGridd`.
        label: key of the label map, which tells its file.
        regions: as of `medseg.transforms.RestoreGridd`, for networks with sigmoids.
        values: the value in label maps of each class, [0, 1, 3, 7] where they have gaps; None: a class is its value.
        ignore: value of voxels in label maps that count nowhere; None: there is none.

    Raises:
        UsageError: MS-T108 there is no such metric, or none is named.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        labels: Sequence[Mapping[str, Any]],
        *,
        definition: Definition = "border",
        pred: str = "pred",
        ref: str = "image",
        label: str = "label",
        regions: Sequence[int] | None = None,
        values: Sequence[int] | None = None,
        ignore: int | None = None,
    ) -> None:
        self.metrics = tuple(metrics)
        self.labels = {str(row["name"]): row.get("region") or row["value"] for row in labels}
        self.definition: Definition = definition
        self.pred, self.ref, self.label = pred, ref, label
        self.values = None if values is None else np.asarray(values)
        self.ignore = ignore
        self.restore = RestoreGridd(pred, ref, regions)
        one = np.ones((1, 1, 1), np.uint8)
        try:
            exact_scores(one, one, (1.0, 1.0, 1.0), (1,), self.metrics, definition)
        except ValueError as error:
            raise _no_metric(str(error)) from error
        if not self.metrics:
            msg = "no metric is named"
            raise _no_metric(msg)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Add `data["scan_scores"]`: metric -> (S,) float32, one a structure, in the order of `labels`.

        Raises:
            UsageError: as `RestoreGridd`.
            InputError: the label map cannot be read.
            GeometryError: MS-G102, MS-G103 it does not lie on its scan.
        """
        restored = self.restore({self.pred: data[self.pred], self.ref: data[self.ref]})[self.pred]
        i, j, k = restored.shape[1:]
        grid = Grid((i, j, k), restored.affine.numpy())
        path = Path(str(data[self.label].meta["filename_or_obj"]))
        label = read_label(path, None, ReadOptions())
        label = on_grid_of(grid, replace(label, array=whole_numbers(label.array, path)), path)
        pred = restored.as_tensor().numpy()[0]
        pred = pred if self.values is None else self.values[pred]
        pred = pred if self.ignore is None else np.where(label.array == self.ignore, 0, pred)
        pred = pred.astype(np.min_scalar_type(int(pred.max(initial=0))))
        found = exact_scores(pred, label.array, grid.spacing_mm, self.labels, self.metrics, self.definition)
        return {**data, KEY: {name: torch.tensor(list(values.values())) for name, values in found.items()}}


class _Collected(MeanOfAll):
    """Numbers that stand already."""

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:  # noqa: ARG002
        return y_pred


class ScanMetrics(dict[str, IgniteMetricHandler]):
    """What `ScanScoresd` found, for `key_metric` (one name) or `additional_metrics` of MONAI's evaluator.

    Args:
        metrics: names that `ScanScoresd` has too.
    """

    def __init__(self, metrics: Sequence[str]) -> None:
        super().__init__({name: IgniteMetricHandler(_Collected(), output_transform=_taken(name)) for name in metrics})


def _taken(name: str) -> Any:
    def take(output: Sequence[Mapping[str, Any]]) -> tuple[list[Tensor], list[Tensor]]:
        found = [one.get(KEY, {}).get(name) for one in output]
        if any(one is None for one in found):
            msg = f"{name} is to be told, but medseg.training.ScanScoresd does not measure it"
            raise _no_metric(msg)
        return found, found

    return take


class Better:
    """`metric_cmp_fn` of MONAI's evaluator: distances are better when they are small.

    Args:
        metric: the key metric.
    """

    def __init__(self, metric: str) -> None:
        self.small = metric.endswith("_mm")

    def __call__(self, current: float, best: float) -> bool:
        """Whether `current` is better."""
        return current < best if self.small else current > best


def _no_metric(what: str) -> UsageError:
    mend = "name them under `metrics` of medseg.training.ScanScoresd in train.json, as in cases.csv: dice, hd95_mm, nsd@1mm"
    return UsageError("MS-T108", what, mend=mend)
