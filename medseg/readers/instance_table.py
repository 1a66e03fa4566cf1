"""What is known of every instance of a label map: its class, and how far its drawing can be trusted.

On disk a label map NAME.nii.gz holds ids (0 background) and may have NAME.json beside it, as nnDetection has:

    {"instances": {"1": 0, "2": 1}, "box_only": [2], "ignore": [3]}

`instances` maps ids to class indices from 0; `box_only` lists instances drawn as filled boxes, of which only the box
is true; `ignore` lists regions that count neither for nor against. Without a file every instance is of class 0.

A network that finds K classes of instances may know further classes by voxels alone: stuff, such as the organ around its
lesions (Kirillov et al., Panoptic Segmentation, CVPR 2019). An id of class K or above is a region of it, not an instance.

In memory ids are 1..N, and two small tensors (N + 1,) say what the ids mean: `classes` int64 (-1 for background and for
regions without a class) and `flags` uint8 (bits `BOX_ONLY`, `IGNORE`, `STUFF`). Ids whose voxels a crop has lost keep
their rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

BOX_ONLY = 1
IGNORE = 2
STUFF = 4

_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


@dataclass(frozen=True)
class InstanceTable:
    """What a label map's JSON says.

    Args:
        classes: id -> class index; None where nothing is said, so that every id is of class 0.
        box_only: ids drawn as filled boxes.
        ignore: ids of regions to ignore.
    """

    classes: Mapping[int, int] | None = None
    box_only: frozenset[int] = frozenset()
    ignore: frozenset[int] = frozenset()


def table_beside(label: str | Path) -> Path:
    """Where the JSON of a label map lies: /a/case.nii.gz -> /a/case.json."""
    path = Path(label)
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix):
            return path.with_name(path.name.removesuffix(suffix) + ".json")
    return path.with_suffix(".json")


def read_table(path: str | Path) -> InstanceTable:
    """Read the JSON beside a label map.

    Raises:
        InputError: MS-T121, it is no JSON, or not of the form above.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise _bad(path, f"it is no valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise _bad(path, "it is no JSON object")
    classes = content.get("instances")
    if classes is not None:
        if not isinstance(classes, dict):
            raise _bad(path, '"instances" does not map ids to classes')
        classes = {_id(key, path): _class(value, path) for key, value in classes.items()}
    return InstanceTable(classes, _ids(content, "box_only", path), _ids(content, "ignore", path))


def _ids(content: dict[str, Any], key: str, path: str | Path) -> frozenset[int]:
    listed = content.get(key) or []
    if not isinstance(listed, list):
        raise _bad(path, f'"{key}" is no list of ids')
    return frozenset(_id(value, path) for value in listed)


def _id(value: Any, path: str | Path) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or int(text) < 1:
        raise _bad(path, f"{text[:40]!r} is no instance id (a whole number from 1)")
    return int(text)


def _class(value: Any, path: str | Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _bad(path, f"{str(value)[:40]!r} is no class index (a whole number from 0)")
    return value


def _bad(path: str | Path, what: str) -> InputError:
    return InputError(
        "MS-T121", f"the classes of its instances cannot be read: {what}", file=path,
        mend='write {"instances": {"1": 0, "2": 1}}: id to class index from 0; "box_only" and "ignore" list ids',
    )  # fmt: skip
