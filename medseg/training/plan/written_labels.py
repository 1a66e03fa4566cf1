"""The folder beside a planned bundle with label maps that the plan itself made, and the list of cases that trains with them."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from medseg.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medseg.readers.cases.case import Case

#: The list, and the folder of the label maps.
LIST, LABELS = "cases.json", "labels"


def require_empty(folder: Path) -> None:
    """Nothing is written over.

    Raises:
        OutputError: MS-T152 the folder holds something already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError("MS-T152", "the folder of the labels is not empty", file=folder, mend="move it away")


@contextmanager
def taken_back(folder: Path) -> Iterator[None]:
    """Take away what was written into a new or empty folder where planning fails after all."""
    new = not folder.exists()
    ours = new or (folder.is_dir() and not any(folder.iterdir()))
    try:
        yield
    except BaseException:
        if ours and folder.is_dir():
            for one in folder.iterdir():
                shutil.rmtree(one, ignore_errors=True) if one.is_dir() else one.unlink()
            if new:
                folder.rmdir()
        raise


def map_of(folder: Path, case: Case) -> Path:
    """Where a case's label map is written."""
    return folder / LABELS / f"{case.name}.nii.gz"


def row_of(folder: Path, case: Case) -> dict[str, Any]:
    """A case of the list: its images where they are, and its written label map."""
    images = [relative(path, folder) for path in case.images]
    image = images if len(images) > 1 else images[0]
    return {"name": case.name, "image": image, "label": relative(map_of(folder, case), folder)}


def relative(path: Path, folder: Path) -> str:
    """From the list's folder, so that both can be moved together; absolute from another drive."""
    try:
        return os.path.relpath(path.resolve(), folder.resolve()).replace(os.sep, "/")
    except ValueError:
        return str(path.resolve())
