"""The numbers that a recipe's own evaluator found, as they may travel: names of metrics and structures, and means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monai.engines.evaluator import Evaluator


def scores_of(evaluator: Evaluator, structures: Sequence[str]) -> dict[str, float]:
    """Metrics of an evaluator that has run, its key metric first; of that also the mean of every structure.

    Args:
        evaluator: MONAI's.
        structures: names of the bundle's labels, in the order of the metric's columns.

    Returns:
        Name -> number; what is not finite, such as a structure that no case has, is left out.
    """
    state = evaluator.state
    key = state.key_metric_name
    found = {name: _number(value) for name, value in state.metrics.items()}
    details = state.metric_details.get(key)
    if isinstance(details, torch.Tensor) and details.ndim == 2 and details.shape[1] == len(structures) > 1:
        found |= {f"{key}/{name}": value for name, value in zip(structures, _column_means(details), strict=True)}
    ordered = sorted(found.items(), key=lambda item: (item[0] != key, not item[0].startswith(f"{key}/")))
    return {name: value for name, value in ordered if math.isfinite(value)}


def _column_means(details: torch.Tensor) -> list[float]:
    return details.double().nanmean(0).tolist()


def _number(value: object) -> float:
    single = isinstance(value, int | float) or (isinstance(value, torch.Tensor) and value.numel() == 1)
    return float(value) if single else math.nan  # type: ignore[arg-type]
