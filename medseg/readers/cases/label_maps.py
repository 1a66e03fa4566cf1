"""Label maps by case: what a folder of predictions or of references holds, whatever tool laid it out.

OUT/case/segmentation.nii.gz      `medseg predict` (or OUT/case.nii.gz with --flat)
OUT/case/instances.nii.gz         beside it, where instance maps are looked for (--flat: OUT/details/case/instances.nii.gz)
case.nii.gz, case_seg.nrrd        nnU-Net, and any folder of label maps; labelsTr of a dataset
case/liver.nii.gz, spleen.nii.gz  TotalSegmentator: a folder a case, a mask a structure
case/seg.dcm                      DICOM SEG or RTSTRUCT, also beside the slices they were drawn on
list.csv                          columns name and label
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.readers.cases.names import (
    belongs_to,
    case_stem,
    collision_key,
    has_dicom_name,
    has_image_name,
    is_label_name,
    safe_name,
    stem,
    without_label_word,
)
from medseg.readers.cases.table import table_rows
from medseg.readers.dicom.headers import read_header
from medseg.readers.dicom.objects import kind_of
from medseg.readers.sniff import require_file, sniff

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_SEGMENTATION = "segmentation"
_INSTANCES = "instances"
#: Maps that stand beside a segmentation and are none, and folders of details.
_OTHER = ("uncertainty", "probabilities", "instances", "image")
_PASSED_OVER = frozenset({"details", "__MACOSX"})
_LABEL_OBJECTS = ("dicom-seg", "dicom-rtstruct")


@dataclass(frozen=True)
class LabelMap:
    """The label map of one case, not yet read.

    Args:
        name: of the case.
        files: one file; or several, a mask for each structure, named by it.
        labels: what the values mean, where the folder says so.
        folder: the folder of the case when it has one of its own.
    """

    name: str
    files: tuple[Path, ...]
    labels: LabelTable | None = None
    folder: Path | None = None


def find_label_maps(path: Path, *, instances: bool = False) -> list[LabelMap]:
    """The label maps in a file, a list or a folder, by name.

    Args:
        path: of it.
        instances: of a case with both, take its map of instances (`instances.nii.gz`), not that of structures.

    Raises:
        InputError: MS-C120 none is there, MS-C102 two are called alike, MS-C103 an unusable list.
    """
    if path.is_dir():
        found = _in_folder(path, instances)
    else:
        require_file(path)
        listed = path.suffix.lower() in (".csv", ".tsv", ".json")
        found = _in_list(path) if listed else [LabelMap(case_stem(path), (path,), _labels_beside(path))]
    if not found:
        raise InputError(
            "MS-C120",
            "no label map was found",
            file=path,
            mend="name a label map, a folder of them (a file or a folder a case), a `medseg predict` folder or a list",
        )
    _require_unique(found, path)
    return sorted(found, key=lambda m: m.name)


def as_one_case(path: Path) -> LabelMap | None:
    """A folder whose files are the structures of one case; None when it is not laid out so."""
    files = _masks(path) if path.is_dir() and not (path / "record.json").is_file() else []
    return LabelMap(path.resolve().name, tuple(files), folder=path) if len(files) > 1 else None


def _in_folder(root: Path, instances: bool) -> list[LabelMap]:
    labels = next((d for d in (root / "labelsTr", root / "labels") if d.is_dir()), None)
    if labels is not None:
        root = labels
    table = _labels_beside(root / "any")
    flat = _masks(root)
    if any(stem(f) == _SEGMENTATION for f in (*flat, *_ours(root))) or (instances and _ours(root, _INSTANCES)):
        case = _in_case_folder(root, instances)  # the folder of one case
        return [] if case is None else [replace(case, name=root.resolve().name)]
    found = []
    for f in flat:
        details = root / "details" / stem(f)
        files = (instances and _ours(details, _INSTANCES)) or [f]
        found.append(LabelMap(_name(f, flat), (files[0],), table or _recorded(details)))
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        if folder.name.startswith(".") or folder.name in _PASSED_OVER:
            continue
        case = _in_case_folder(folder, instances)
        if case is not None:
            found.append(replace(case, labels=case.labels or table))
    if not found:
        objects = _label_objects(root)
        found = [LabelMap(root.resolve().name, tuple(objects), folder=root)] if len(objects) == 1 else [
            LabelMap(case_stem(f), (f,), folder=root) for f in objects
        ]  # fmt: skip
    return found


def _in_case_folder(folder: Path, instances: bool) -> LabelMap | None:
    masks = _masks(folder)
    whole = _ours(folder, _INSTANCES) if instances else []
    whole = (
        whole
        or _ours(folder)
        or [f for f in masks if stem(f) == _SEGMENTATION]
        or [f for f in masks if _is_segmentation(f)]
    )
    if whole:
        return LabelMap(folder.name, (whole[0],), _recorded(folder), folder)
    if (folder / "record.json").is_file():  # a case of ours that failed
        return None
    masks = [f for f in masks if not stem(f).startswith(_OTHER)]
    if masks:
        return LabelMap(folder.name, tuple(masks), None, folder)
    objects = _label_objects(folder)
    return LabelMap(folder.name, (objects[0],), None, folder) if len(objects) == 1 else None


def _ours(folder: Path, name: str = _SEGMENTATION) -> list[Path]:
    """The label map that `medseg predict` wrote; `segmentation.seg.nrrd` beside it is the same for 3D Slicer."""
    path = folder / f"{name}.nii.gz"
    return [path] if path.is_file() else []


def _is_segmentation(path: Path) -> bool:
    return path.name.lower().endswith((".seg.nrrd", ".seg.nhdr"))


def _masks(folder: Path) -> list[Path]:
    """Label maps right in a folder, by name; of an image and its label map (`a`, `a_seg`) only the latter."""
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".") and has_image_name(f))
    files = [f for f in files if not f.name.lower().endswith((".img", ".img.gz"))]
    labels = [f for f in files if is_label_name(f)]
    return [f for f in files if not any(f != label and belongs_to(stem(label), stem(f)) for label in labels)]


def _label_objects(folder: Path) -> list[Path]:
    """DICOM SEG and RTSTRUCT files in a folder and below."""
    out = []
    for file in sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith(".")):
        if has_image_name(file) or file.suffix.lower() in (".json", ".csv", ".txt", ".png", ".html"):
            continue
        if not has_dicom_name(file) and not _is_dicom(file):
            continue
        try:
            header = read_header(file)
        except InputError:
            continue
        if header is not None and kind_of(header) in _LABEL_OBJECTS:
            out.append(file)
    return out


def _is_dicom(path: Path) -> bool:
    try:
        return sniff(path) == "dicom"
    except InputError:
        return False


def _in_list(path: Path) -> list[LabelMap]:
    found = []
    for row in table_rows(path):
        cells = {str(k).strip().casefold(): v for k, v in row.items() if v not in (None, "")}
        file = cells.get("label") or cells.get("segmentation") or cells.get("image")
        if not file:
            raise InputError(
                "MS-C103",
                f"a row names no label map: {dict(row)}",
                file=path,
                mend="give the list the columns name and label",
            )
        file = path.parent / str(file).strip()
        name = str(cells.get("name") or cells.get("case") or case_stem(file)).strip()
        found.append(LabelMap(safe_name(name), (file,)))
    return found


def _name(path: Path, files: Iterable[Path]) -> str:
    """The case a label map is called for: 'a' of 'a_seg.nrrd', unless 'a' itself stands beside it."""
    short = without_label_word(case_stem(path))
    taken = sum(without_label_word(case_stem(f)) == short for f in files) > 1
    return case_stem(path) if taken else short


def _labels_beside(path: Path) -> LabelTable | None:
    """What the dataset.json of a dataset says its labels mean: nnU-Net's name -> value, or MSD's value -> name."""
    for file in (path.parent / "dataset.json", path.parent.parent / "dataset.json"):
        named = _json(file).get("labels")
        if isinstance(named, dict) and named:
            return _table_of(named)
    return None


def _table_of(named: Mapping[str, Any]) -> LabelTable | None:
    rows = []
    for key, value in named.items():
        if isinstance(value, int):
            rows.append({"value": value, "name": key})
        elif isinstance(value, str) and key.isdigit():
            rows.append({"value": int(key), "name": value})
        elif isinstance(value, list) and value and all(isinstance(v, int) for v in value):  # an nnU-Net region
            rows.append({"value": max(value), "name": key, "region": value})
    rows = [row for row in rows if row["value"] > 0 and str(row["name"]).casefold() != "ignore"]
    taken: set[int] = set()
    for row in sorted(rows, key=lambda row: len(row.get("region", ()))):  # a region within another has its value
        while row["value"] in taken:
            row["value"] += 1
        taken.add(row["value"])
    try:
        return LabelTable.from_json(rows) if rows else None
    except ValueError:
        return None


def _recorded(folder: Path) -> LabelTable | None:
    """What `medseg predict` recorded of a case: its structures and their values."""
    rows = _json(folder / "record.json").get("measurements")
    if not isinstance(rows, list) or not rows:
        return None
    try:
        return LabelTable.from_json({"value": row["value"], "name": row["structure"]} for row in rows)
    except (ValueError, KeyError, TypeError):
        return None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _require_unique(found: list[LabelMap], path: Path) -> None:
    first: dict[str, LabelMap] = {}
    for item in found:
        other = first.setdefault(collision_key(item.name), item)
        if other is not item:
            raise InputError(
                "MS-C102",
                f"two label maps are called {item.name!r}: {other.files[0]} and {item.files[0]}",
                file=path,
                mend="rename one, or give a CSV list with the columns name and label",
            )
