"""Label maps whose names name no image: exam_seg beside exam_ct and exam_ct_small, as tools write them.

Each belongs to the one image that lies on the very same grid, where both names begin with one word: many scans of one protocol
lie on equal grids.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from medseg.errors import MedsegError
from medseg.geometry import same_space
from medseg.readers.cases.grouping import Grouped
from medseg.readers.cases.names import stem, words_of
from medseg.readers.open import grid_of

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.geometry import Grid
    from medseg.readers.cases.case import Case
    from medseg.readers.options import ReadOptions


def by_grid(found: Grouped) -> Grouped:
    """The same cases with the strays that lie on one image's grid and on no other's. Headers alone are read, if at all.

    Args:
        found: of one folder.
    """
    if not found.strays:
        return found
    grids = [_grid(case.images[0], case.options) if case.images else None for case in found.cases]
    maps = [list(case.maps) for case in found.cases]
    strays = []
    for file in found.strays:
        own = _grid(file, found.cases[0].options) if found.cases else None
        owners = [n for n, grid in enumerate(grids) if own is not None and grid is not None and same_space(own, grid)]
        is_owned = len(owners) == 1 and one_examination(file, found.cases[owners[0]])
        (maps[owners[0]] if is_owned else strays).append(file)
    cases = [
        replace(case, label=held[0] if len(held) == 1 else None, maps=tuple(held))
        for case, held in zip(found.cases, maps, strict=True)
    ]
    return Grouped(tuple(cases), tuple(strays))


def one_examination(file: Path, case: Case) -> bool:
    """Whether the names of a label map and of a case's image begin with one word."""
    return bool(case.images) and words_of(stem(file))[:1] == words_of(stem(case.images[0]))[:1]


def _grid(path: Path, options: ReadOptions) -> Grid | None:
    try:
        return grid_of(path, options)
    except (MedsegError, OSError):  # its own refusal comes when it is read
        return None
