"""The label map of one case, read: whole numbers, in space, masks a structure put together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.readers.cases.names import case_stem
from medseg.readers.cases.pairing import on_grid_of, read_label, whole_numbers
from medseg.readers.options import ReadOptions

if TYPE_CHECKING:
    from medseg.readers.cases.label_maps import LabelMap
    from medseg.volume import Volume


def load_label_map(item: LabelMap, like: Volume | None = None, options: ReadOptions | None = None) -> Volume:
    """Read a label map on its own grid.

    Args:
        item: from `find_label_maps`.
        like: the volume whose grid an RTSTRUCT is drawn on; None: the image beside it.
        options: the readers' options.

    Returns:
        (I, J, K) of the smallest unsigned integer type; `labels` where the file or its folder names them.

    Raises:
        InputError: MS-C111 to MS-C113 no label map, MS-C121 masks of two structures overlap, and what the readers raise.
        GeometryError: masks of one case that do not lie in one space.
    """
    options = replace(options or ReadOptions(), nonfinite="refuse")
    first = _whole(item, 0, like, options)
    if len(item.files) == 1:
        return first if first.labels is not None else replace(first, labels=item.labels)
    names = [case_stem(file) for file in item.files]
    out = np.zeros(first.array.shape, np.min_scalar_type(len(names)))
    decisions = []
    for n, file in enumerate(item.files):
        mask = first if n == 0 else on_grid_of(first.grid, _whole(item, n, like, options), file)
        inside = mask.array != 0
        taken = out[inside]
        if taken.any():
            other = int(taken[taken != 0][0]) - 1
            raise InputError(
                "MS-C121",
                f"the masks {names[other]!r} and {names[n]!r} overlap in {np.count_nonzero(taken)} voxels: which "
                "structure these belong to is not said",
                file=file,
                mend="score the structures one file at a time, or remove the overlap",
            )
        out[inside] = n + 1
        decisions += mask.source.decisions
    return replace(first, array=out, labels=LabelTable.from_names(names)).with_decisions(*decisions)


def _whole(item: LabelMap, n: int, like: Volume | None, options: ReadOptions) -> Volume:
    volume = read_label(item.files[n], like, options)
    return replace(volume, array=whole_numbers(volume.array, item.files[n]))
