"""Lists of cases: CSV, TSV or JSON with the columns name, image (or one column a channel) and label."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.readers.cases.case import Case
from medseg.readers.cases.folder import dicom_name
from medseg.readers.cases.grouping import wrong_channels
from medseg.readers.cases.names import case_stem, channel_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medseg.readers.options import ReadOptions


def table_cases(path: Path, channels: Sequence[str], options: ReadOptions) -> list[Case]:
    """The cases of a list, in its order; relative paths count from the folder of the list.

    Raises:
        InputError: MS-C103 the list cannot be parsed or has no column for an image, MS-C105 it has columns for
            some of the channels only.
    """
    rows = table_rows(path)
    if not rows:
        return []
    columns = list(dict.fromkeys(key for row in rows for key in row))
    named = _channel_columns(columns, channels, path)
    return [_case(row, named, path, channels, options) for row in rows]


def table_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a list as they stand in it: column -> value.

    Raises:
        InputError: MS-C103 it cannot be parsed.
    """
    return _json_rows(path) if path.suffix.lower() == ".json" else _csv_rows(path)


def _channel_columns(columns: list[str], channels: Sequence[str], path: Path) -> list[str]:
    """The columns that hold images: one for each channel in the bundle's order, or `image` alone."""
    by_key = {channel_key(c): c for c in columns}
    found = [by_key[channel_key(c)] for c in channels if channel_key(c) in by_key]
    if len(found) == len(channels):
        return found
    if "image" in by_key:
        return [by_key["image"]]
    wanted = ", ".join(channels)
    if found:
        raise InputError(
            "MS-C105",
            f"the bundle wants {len(channels)} channels: {wanted}; this list has columns for {', '.join(found)} only",
            file=path,
            mend=f"give it the columns name, {wanted} (and label)",
        )
    raise InputError(
        "MS-C103",
        f"no column says where the images are; it has {', '.join(columns)}",
        file=path,
        mend=f"give it the columns name, {'image' if len(channels) == 1 else wanted} (and label)",
    )


def _case(row: Mapping[str, Any], named: list[str], path: Path, channels: Sequence[str], options: ReadOptions) -> Case:
    found = [v for column in named for v in (row[column] if isinstance(row.get(column), list) else [row.get(column)])]
    images = tuple(path.parent / str(v).strip() for v in found if v not in (None, ""))
    keys = {channel_key(c): str(v).strip() for c, v in row.items() if v not in (None, "")}
    label = path.parent / keys["label"] if "label" in keys else None
    error = None
    if len(images) < len(named) or len(images) not in (1, len(channels)):
        error = wrong_channels(images, channels)
    name = keys.get("name")
    if not name and images:
        name = dicom_name(images[0], images[0].resolve().name, options) if images[0].is_dir() else case_stem(images[0])
    if not name:
        raise InputError(
            "MS-C103", f"a row names neither a case nor an image: {dict(row)}", file=path, mend="complete or delete it"
        )
    return Case(name, images, label, options, error)


def _json_rows(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise _unusable(path, f"no valid JSON ({error})") from error
    rows = content.get("cases") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict | str) for row in rows):
        raise _unusable(path, "no list of cases")
    return [{"image": row} if isinstance(row, str) else row for row in rows]


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max("\t;,", key=first.count)
            reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True)
            rows = [row for row in reader if any(v for v in row.values())]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _unusable(path, f"no CSV text in UTF-8 ({error})") from error
    if any(None in row for row in rows):
        raise _unusable(path, f"a row has more fields than the header ({', '.join(reader.fieldnames or ())})")
    return [{k.strip(): v for k, v in row.items()} for row in rows]


def _unusable(path: Path, found: str) -> InputError:
    return InputError(
        "MS-C103",
        f"this list cannot be used: {found}",
        file=path,
        mend="write a header line such as `name,image,label`, then one line a case",
    )
