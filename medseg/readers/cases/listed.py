"""What a list of cases or a dataset.json names, surveyed entry by entry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import MedsegError
from medseg.readers.cases.dataset import dataset_content, is_dataset_json
from medseg.readers.cases.names import has_dicom_name, has_image_name, stem
from medseg.readers.cases.table import table_rows
from medseg.readers.finding import Finding
from medseg.readers.open import survey
from medseg.readers.options import ReadOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike


def survey_input(path: str | PathLike[str], options: ReadOptions | None = None) -> list[Finding]:
    """As `survey`, and of a CSV, TSV or JSON list or a dataset.json the rows of all that it names, label maps too.

    Raises:
        InputError: MS-C103 and MS-C104 the list cannot be used, and as `survey`.
    """
    path, options = Path(path), options or ReadOptions()
    if not path.is_file() or path.suffix.lower() not in (".csv", ".tsv", ".json"):
        return survey(path, options)
    named = list(dict.fromkeys(_named(path)))
    return [row for file in named for row in _rows(file, options)] if named else survey(path.parent, options)


def _named(path: Path) -> Iterator[Path]:
    """Every image, label map or folder that a list names; none for an nnU-Net dataset.json, whose folders count."""
    if path.suffix.lower() == ".json" and is_dataset_json(path):
        content = dataset_content(path)
        rows: list[Any] = [row for key in ("training", "test") for row in _list(content.get(key))]
        rows = [row if isinstance(row, dict) else {"image": row} for row in rows]
    else:
        rows = table_rows(path)
    for row in rows:
        for value in (
            v for column, cell in row.items() if column.casefold() != "name" for v in (_list(cell) or [cell])
        ):
            file = path.parent / str(value).strip() if value not in (None, "") else None
            if file is not None and (has_image_name(file) or has_dicom_name(file) or file.exists()):
                yield file


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _rows(file: Path, options: ReadOptions) -> list[Finding]:
    try:
        return survey(file, options)
    except MedsegError as error:
        message = f"{error.what} -> {error.mend}"
        return [
            Finding(path=file, name=stem(file), format="unknown", verdict="refused", code=error.code, message=message)
        ]
