"""Label maps whose names name no image: exam_seg beside exam_ct and exam_ct_small, as tools write them.

Each belongs to the one image of its examination that lies on the very same grid. Grids alone say nothing: many scans of one
protocol lie on equal ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from medseg.errors import MedsegError
from medseg.geometry import same_space
from medseg.readers.cases.grouping import Grouped
from medseg.readers.cases.names import stem, words_before_label, words_of
from medseg.readers.open import grid_of

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.geometry import Grid
    from medseg.readers.cases.case import Case
    from medseg.readers.options import ReadOptions


def by_grid(found: Grouped) -> Grouped:
    """The same cases with those strays that belong to one of them. Headers of few files are read, if any.

    Args:
        found: of one folder.
    """
    cases, strays = list(found.cases), []
    grids: dict[Path, Grid | None] = {}

    def is_on(file: Path, case: Case) -> bool:
        for path in (file, case.images[0]):
            if path not in grids:
                grids[path] = _grid(path, case.options)
        own, image = grids[file], grids[case.images[0]]
        return own is not None and image is not None and same_space(own, image)

    for file in found.strays:
        owners = [n for n, case in enumerate(cases) if _is_of(file, case) and is_on(file, case)]
        if len(owners) != 1:
            strays.append(file)
            continue
        case = cases[owners[0]]
        maps = (*case.maps, file)
        cases[owners[0]] = replace(
            case, label=file if len(maps) == 1 else None, maps=maps, by_grid=(*case.by_grid, file)
        )
    return Grouped(tuple(cases), tuple(strays))


def _is_of(file: Path, case: Case) -> bool:
    """Whether an image's name begins with all that a label map's says before its label word."""
    examination = words_before_label(stem(file))
    return bool(examination and case.images) and words_of(stem(case.images[0]))[: len(examination)] == examination


def _grid(path: Path, options: ReadOptions) -> Grid | None:
    try:
        return grid_of(path, options)
    except (MedsegError, OSError):  # its own refusal comes when it is read
        return None
