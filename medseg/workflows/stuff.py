"""Classes without instances (stuff) on the image's own grid: the semantic map of what no instance covers.

Together with the instances it is the panoptic segmentation: every voxel has one class, and where that has instances,
one of them (Kirillov et al., CVPR 2019). Instances lie over stuff.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from medseg.resample import resample_labels
from medseg.transforms.components import drop_pieces

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from medseg.bundle.load import Bundle
    from medseg.geometry import Grid
    from medseg.volume import Volume


@dataclass(frozen=True, eq=False)
class Stuff:
    """What of an image is stuff.

    Args:
        array: (I, J, K) uint8: class value where no instance lies and the class has none, else 0.
        values: of these classes, whether they are in the image or not.
        cleaned_ml: value -> volume of the small pieces left out, mL.
    """

    array: np.ndarray
    values: range
    cleaned_ml: Mapping[int, float] = field(default_factory=dict)


def stuff_values(bundle: Bundle) -> range:
    """Values of a bundle's classes that have no instances: behind those of its network's K classes that have."""
    first = int(getattr(bundle.network, "classes", 0)) + 1
    return range(first, first + int(getattr(bundle.network, "stuff", 0)))


def stuff_of(bundle: Bundle, network: Grid, ids: Volume) -> Stuff | None:
    """What the bundle's inferer saw of it in the last image; None where the network knows none.

    Args:
        bundle: its inferer has been over the image.
        network: the grid that it saw.
        ids: (I, J, K) map of instances on the image's own grid; they override stuff.
    """
    seen, values = bundle.inferer.stuff, stuff_values(bundle)
    if seen is None:
        return None
    array = resample_labels(seen.numpy(), network, ids.grid, threads=torch.get_num_threads())
    array[ids.array > 0] = 0
    cleaned = {}
    if least := bundle.inferer.min_stuff_mm3 / (1000 * ids.grid.voxel_ml):
        removed = {value: drop_pieces(array, value, least) for value in values}
        cleaned = {value: n * ids.grid.voxel_ml for value, n in removed.items() if n}
    return Stuff(array, values, cleaned)
