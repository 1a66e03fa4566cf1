"""Instances of which only the box is known, as an annotator gives them who draws boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterable


def strip_to_boxes(instances: np.ndarray, ids: Iterable[int]) -> np.ndarray:
    """Instances drawn as filled boxes; the boxes of all instances stay what they were.

    Where boxes overlap, a voxel that truly belongs to an instance keeps its id, so that masks of others are whole.

    Args:
        instances: (D, H, W), 0 background.
        ids: those that become boxes.

    Returns:
        A new (D, H, W) map of the same dtype.
    """
    out = np.zeros_like(instances)
    places = ndimage.find_objects(instances)
    for number in ids:
        out[places[number - 1]] = number
    return np.where(instances > 0, instances, out)
