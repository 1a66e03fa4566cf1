"""What a viewer shows of one case: the data that the scene, the page and the pictures are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from medseg.volume import Volume

#: Key of an uncertainty map -> its title; its file is `map_file(key)`. All lie in [0, 1]: divided by ln C.
MAPS = {"entropy": "Predictive entropy", "mutual_information": "Mutual information"}


def map_file(key: str) -> str:
    """The file of an uncertainty map in a case's folder.

    The words "label" and "seg" stay out of such names: 3D Slicer would open the file as a label map.
    """
    return f"uncertainty_{key}.nii.gz"


@dataclass(frozen=True, eq=False)
class CaseView:
    """One case as its viewers show it; everything lies on the image's own grid.

    Args:
        name: of the case.
        image: (I, J, K), or (C, I, J, K), of which the first channel is shown.
        segmentation: (I, J, K) label map; `labels` is its label table.
        maps: key of `MAPS` -> (I, J, K) float32 in [0, 1]; empty when no uncertainty was asked for.
        rows: the rows of measurements.csv, one a structure.
        warning: what must stand on every picture ("OUTSIDE TRAINING DOMAIN"), or "".
        notes: what the user should look at, in words.
    """

    name: str
    image: Volume
    segmentation: Volume
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    rows: Sequence[Mapping[str, object]] = ()
    warning: str = ""
    notes: Sequence[str] = ()
