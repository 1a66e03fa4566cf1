"""Label values numbered 1, 2, ...: what tables of colours and of boxes are indexed by."""

from __future__ import annotations

import numpy as np

#: Up to this largest value a table of all values is quicker than a search: milliseconds for 4 MB.
_TABLE = 1_000_000


def numbered(labels: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """Number the values of a label map in their order.

    Args:
        labels: (I, J, K) integers; 0 and below are background.

    Returns:
        The values above 0, ascending, and (I, J, K) of the smallest unsigned type: 0 for background, n for the n-th
        value.
    """
    found = np.unique(labels)
    values = found[found > 0]
    kind = np.min_scalar_type(len(values))
    if not len(values):
        return (), np.zeros(labels.shape, kind)
    if found[0] >= 0 and found[-1] <= _TABLE:
        table = np.zeros(int(found[-1]) + 1, kind)
        table[values] = np.arange(1, len(values) + 1)
        numbers = table[labels]
    else:
        places = np.searchsorted(values, labels) + 1
        numbers = np.where(labels > 0, places, 0).astype(kind)
    return tuple(int(v) for v in values), numbers
