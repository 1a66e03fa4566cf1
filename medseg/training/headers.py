"""The headers of all images and label maps of a training, judged before the bundle's network is built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import MedsegError
from medseg.readers.cases.headers import check_image
from medseg.readers.options import ReadOptions
from medseg.training.plan.problems import DatasetError, Problem, problem_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def require_headers(rows: Iterable[Mapping[str, Any]], data: Path) -> None:
    """Refuse a dataset whose files cannot all be read, as far as their headers tell, naming every one.

    Args:
        rows: of `datalist`: "image" is a path, or a list of one a channel, "label" a path.
        data: what the user named.

    Raises:
        DatasetError: MS-T140 with one problem a file.
    """
    problems: list[Problem] = []
    seen: set[str] = set()
    for row in rows:
        images = row["image"] if isinstance(row["image"], list) else [row["image"]]
        for file in dict.fromkeys([*images, row["label"]]):
            if str(file) in seen:
                continue
            seen.add(str(file))
            try:
                check_image(Path(file), ReadOptions())
            except MedsegError as error:
                problems.append(problem_of(error, "", Path(file)))
            except OSError as error:
                what = f"it cannot be opened: {error.strerror or error}"
                mend = "look at its permissions and at the share or link that it lies behind"
                problems.append(Problem("MS-F101", what, str(file), mend))
    if problems:
        raise DatasetError(problems, data)
