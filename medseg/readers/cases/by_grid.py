"""Label maps whose names name no image: each belongs to the one image that lies on the very same grid."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from medseg.errors import MedsegError
from medseg.geometry import same_space
from medseg.readers.cases.grouping import Grouped
from medseg.readers.open import grid_of

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.geometry import Grid
    from medseg.readers.options import ReadOptions


def by_grid(found: Grouped) -> Grouped:
    """The same cases with the strays that lie on one image's grid and on no other's. Headers alone are read, if at all."""
    if not found.strays:
        return found
    grids = [_grid(case.images[0], case.options) if case.images else None for case in found.cases]
    maps = [list(case.maps) for case in found.cases]
    strays = []
    for file in found.strays:
        own = _grid(file, found.cases[0].options) if found.cases else None
        owners = [n for n, grid in enumerate(grids) if own is not None and grid is not None and same_space(own, grid)]
        (maps[owners[0]] if len(owners) == 1 else strays).append(file)
    cases = [
        replace(case, label=held[0] if len(held) == 1 else None, maps=tuple(held))
        for case, held in zip(found.cases, maps, strict=True)
    ]
    return Grouped(tuple(cases), tuple(strays))


def _grid(path: Path, options: ReadOptions) -> Grid | None:
    try:
        return grid_of(path, options)
    except (MedsegError, OSError):  # its own refusal comes when it is read
        return None
