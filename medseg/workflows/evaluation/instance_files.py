"""What is known of the instances of a map: the JSON beside it, as `medseg predict` or as nnDetection writes it.

instances.json    {"case": ..., "instances": [{"id": 1, "structure": "nucleus", "value": 1, "score": 0.97, ...}, ...]}
NAME.json         {"instances": {"1": 0}, "box_only": [2], "ignore": [3], "scores": {"1": 0.97}}, all of it optional
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError
from medseg.metrics.instance import Described
from medseg.readers.cases.names import stem
from medseg.readers.instance_table import read_table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from medseg.readers.cases.label_maps import LabelMap


@dataclass(frozen=True)
class Known:
    """What a JSON says.

    Args:
        file: it; None where there is none.
        classes: id -> class index from 0; None where nothing is said.
        scores: id -> confidence; None where nothing is said.
        names: class index -> name of the structure.
        box_only: ids drawn as boxes.
        ignore: ids of regions to ignore.
        hidden: ids that are listed and known to have no voxel.
        stuff: class index -> name of the structures that have no instances, as the network that predicted says.
    """

    file: Path | None = None
    classes: Mapping[int, int] | None = None
    scores: Mapping[int, float] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    box_only: frozenset[int] = frozenset()
    ignore: frozenset[int] = frozenset()
    hidden: frozenset[int] = frozenset()
    stuff: Mapping[int, str] = field(default_factory=dict)

    def described(self, labels: np.ndarray, *, one_class: bool, without: Collection[int] = ()) -> Described:
        """The map with this; of one class whatever is said where `one_class`, background where a class is in `without`."""
        lost = [i for i, c in (self.classes or {}).items() if c in without]
        labels = np.where(np.isin(labels, lost), 0, labels) if lost else labels
        return Described(labels, None if one_class else self.classes, self.scores, self.box_only, self.ignore)


def known_of(item: LabelMap) -> Known:
    """What is known of a map's instances; nothing where no JSON lies beside it.

    Raises:
        InputError: MS-E106 a label map of `medseg predict` with structures, not instances; MS-E107 the JSON cannot be
            used; MS-T121 likewise, in nnDetection's form.
    """
    file = item.files[0]
    _require_instances(item, file)
    path = file.with_name(f"{stem(file)}.json")
    if not path.is_file():
        return Known()
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise _bad(path, f"it is no valid JSON ({error})") from error
    listed = content.get("instances") if isinstance(content, dict) else None
    if isinstance(listed, list):
        return _predicted(listed, content.get("stuff") or [], path)
    table = read_table(path)
    return Known(path, table.classes, _scores(content, path), {}, table.box_only, table.ignore)


def class_names(item: LabelMap) -> dict[int, str]:
    """Class index -> name, as the data set of a map calls them: `instances.classes` of its dataset.json.

    nnDetection numbers the `labels` of its dataset.json from 0; others, and a `predict` record, label values from 1.
    """
    for folder in (item.files[0].parent, item.files[0].parent.parent):
        try:
            content = json.loads((folder / "dataset.json").read_text(encoding="utf-8-sig"))
        except (OSError, ValueError):
            continue
        if not isinstance(content, dict):
            continue
        ours = content.get("instances")
        if isinstance(ours, dict) and isinstance(ours.get("classes"), list):
            return {n: str(name) for n, name in enumerate(ours["classes"])}
        labels = content.get("labels")
        if isinstance(labels, dict) and str(labels.get("0", "background")).casefold() != "background":
            return {int(n): str(name) for n, name in labels.items() if str(n).isdecimal()}
    return {label.value - 1: label.name for label in item.labels or ()}


def _require_instances(item: LabelMap, file: Path) -> None:
    details = item.folder if item.folder is not None else file.parent / "details" / stem(file)
    if stem(file) != "instances" and len(item.files) == 1 and (details / "record.json").is_file():
        raise InputError(
            "MS-E106", "this is a label map of structures; its folder has no instances.nii.gz", file=file,
            mend="predict with an instance bundle, or score connected components, as -c lesion does",
        )  # fmt: skip


def _predicted(rows: list[Any], stuff: Any, path: Path) -> Known:
    classes, scores, names, hidden = {}, {}, {}, []
    for row in rows:
        try:
            number, value, score = _whole(row["id"]), _whole(row["value"]), _score(row["score"])
            name = str(row["structure"])
        except (KeyError, TypeError, ValueError) as error:
            raise _bad(path, f"a row lacks id, structure, value or score: {str(row)[:80]}") from error
        if number in classes:
            raise _bad(path, f"instance {number} stands twice")
        classes[number], scores[number] = value - 1, score
        names.setdefault(value - 1, name)
        if row.get("voxels") == 0:
            hidden.append(number)
    try:
        without = {_whole(row["value"]) - 1: str(row["structure"]) for row in stuff}
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(path, '"stuff" does not list structures with their values') from error
    return Known(path, classes, scores, names, hidden=frozenset(hidden), stuff=without)


def _scores(content: dict[str, Any], path: Path) -> dict[int, float] | None:
    given = content.get("scores")
    if given is None:
        return None
    try:
        return {_whole(int(number)): _score(score) for number, score in given.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise _bad(path, '"scores" does not map ids to numbers') from error


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(value)
    return value


def _score(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _bad(path: Path, what: str) -> InputError:
    return InputError(
        "MS-E107", f"what this file says of the instances cannot be used: {what}", file=path,
        mend='correct it, or take it away: then all instances are of one class, with score 1',
    )  # fmt: skip
