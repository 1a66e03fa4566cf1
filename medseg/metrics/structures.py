"""What is scored: a structure is a name and the label values whose union it is; and what an empty one means."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

#: Values, or names with the value or the values (of a nested region such as "whole tumour": (1, 2, 3)) they stand for.
Labels = Sequence[int] | Mapping[str, int | Sequence[int]]

#: How a structure stands in a case. Both empty: overlap 1 and distances 0; one empty: overlap 0 and distances
#: infinite (Maier-Hein et al., Metrics Reloaded, Nature Methods 2024). Nothing is dropped.
Status = Literal["ok", "both_empty", "pred_empty", "ref_empty"]


def structures(labels: Labels | None, found: Iterable[np.ndarray]) -> dict[Hashable, tuple[int, ...]]:
    """Key -> label values of every structure.

    Args:
        labels: as the user names them; a sequence of values is its own key. None: every value above 0 that was found.
        found: the values in the label maps.

    Raises:
        ValueError: a structure without values.
    """
    if labels is None:
        labels = sorted({int(v) for values in found for v in values if v > 0})
    if not isinstance(labels, Mapping):
        return {int(value): (int(value),) for value in labels}
    named: dict[Hashable, tuple[int, ...]] = {
        name: (value,) if isinstance(value, int) else tuple(map(int, value)) for name, value in labels.items()
    }
    empty = [name for name, values in named.items() if not values]
    if empty:
        msg = f"a structure is the union of one or more label values, got none for {', '.join(map(str, empty))}"
        raise ValueError(msg)
    return dict(named)


def status_of(n_pred: float, n_ref: float) -> Status:
    """From the sizes of a structure in prediction and reference."""
    if n_pred and n_ref:
        return "ok"
    if not n_pred and not n_ref:
        return "both_empty"
    return "ref_empty" if n_pred else "pred_empty"
