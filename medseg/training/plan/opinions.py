"""Which annotators labelled which cases: names alone, no image is read.

Their label maps lie in folders beside the images, `labelsTr_ANNA` and `labelsTr_BO` beside `imagesTr` (`labels_ANNA` beside
`images`), each file called like its case; or in the columns `label_ANNA`, `label_BO` of a CSV, TSV or JSON list. A plain
`labelsTr` or column `label` is nobody's and is left aside. An annotator need not have labelled every case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.readers.cases.names import case_stem, has_image_name, safe_name
from medseg.readers.cases.table import table_rows
from medseg.training.plan.problems import Problem
from medseg.training.plan.sources import (
    annotator_folders,
    find_source,
    inner_of,
    is_json_dataset,
    orphan,
    training_folders,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medseg.training.plan.sources import Source

_COLUMN = re.compile(r"label[ _.-]+(.+)", re.IGNORECASE)


@dataclass(frozen=True)
class Opinions:
    """A dataset that several people labelled.

    Args:
        source: its cases; a label map that is nobody's stays with its case and is not used.
        who: the annotators' names in alphabetical order.
        maps: case -> annotator -> label map.
    """

    source: Source
    who: tuple[str, ...]
    maps: Mapping[str, Mapping[str, Path]]


def find_opinions(data: Path, channels: Sequence[str] = ()) -> Opinions:
    """Look for annotators.

    Args:
        data: as for `find_source`.
        channels: likewise.

    Returns:
        What there is; its source holds a problem for each case without, and for each map without a case.

    Raises:
        InputError: MS-T103 there is no such folder or list, MS-T154 fewer than two annotators.
    """
    source = find_source(data, channels, need_labels=False)
    inner = inner_of(data)
    listed = inner.is_file() and not is_json_dataset(inner)
    of_annotator = _in_list(inner, source) if listed else _in_folders(inner if inner.is_dir() else inner.parent)
    known = {case.name for case in source.cases}
    maps: dict[str, dict[str, Path]] = {case.name: {} for case in source.cases}
    problems = list(source.problems)
    for who in sorted(of_annotator):
        for name, file in of_annotator[who].items():
            if name in known:
                maps[name][who] = file
            else:
                problems.append(orphan(file))
    who = tuple(sorted(name for name, files in of_annotator.items() if files))
    if len(who) < 2 and all(problem.note for problem in problems):
        found = f"of {who[0]} alone" if who else "of none"
        mend = (
            "put them into labelsTr_NAME beside imagesTr, one folder an annotator, or into columns label_NAME of a list"
        )
        raise InputError(
            "MS-T154",
            f"label maps of several annotators were asked for, and there are some {found}",
            file=data,
            mend=mend,
        )
    for case in source.cases:
        if not maps[case.name]:
            what = "no annotator has a label map of this image's name"
            file = str(case.images[0]) if case.images else ""
            problems.append(Problem("MS-T141", what, file, "add a label map, or take the image out", case.name))
    return Opinions(replace(source, problems=tuple(problems)), who, maps)


def _in_folders(root: Path) -> dict[str, dict[str, Path]]:
    out: dict[str, dict[str, Path]] = {}
    for images in training_folders(root):
        for who, folder in annotator_folders(images).items():
            files = [f for f in sorted(folder.iterdir()) if has_image_name(f) and not f.name.startswith(".")]
            out.setdefault(who, {}).update({safe_name(case_stem(file)): file for file in files})
    return out


def _in_list(path: Path, source: Source) -> dict[str, dict[str, Path]]:
    out: dict[str, dict[str, Path]] = {}
    for row, case in zip(table_rows(path), source.cases, strict=False):
        for column, cell in row.items():
            found = _COLUMN.fullmatch(str(column).strip())
            if found and cell not in (None, ""):
                out.setdefault(found[1], {})[case.name] = path.parent / str(cell).strip()
    return out
