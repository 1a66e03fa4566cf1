"""Reading a bundle's JSON and YAML files as plain data, with errors that name the file and the line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from medseg.bundle.shipped import config_path
from medseg.errors import BundleError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path


def read_config(root: Path, name: str) -> dict[str, Any]:
    """`configs/NAME.json` (or .yaml, .yml) as plain data.

    Raises:
        BundleError: MS-B103 when there is none, MS-B104 when it cannot be read.
        MissingExtraError: MS-B105 for YAML without PyYAML.
    """
    path = config_path(root, name)
    if path is None:
        raise BundleError(
            "MS-B103",
            f"configs/{name}.json is missing",
            file=root,
            mend="fetch the whole bundle again; medseg bundle check lists what it must hold",
        )
    data = read_file(path)
    if not isinstance(data, dict):
        raise BundleError("MS-B104", f"holds a {type(data).__name__}, not a table", file=path, mend="begin it with {")
    return data


def read_file(path: Path) -> Any:
    """One JSON or YAML file as plain data; a key that stands twice in JSON is an error."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return json.loads(text, object_pairs_hook=_once)
        return _load_yaml(text, path)
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError("MS-B104", f"cannot be read: {error}", file=path, mend="mend the file there") from error


def _load_yaml(text: str, path: Path) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError(
            "MS-B105", "this bundle is written in YAML", file=path, mend="pip install pyyaml"
        ) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        msg = f"{', '.join(twice)} stands twice in one table"
        raise ValueError(msg)
    return dict(pairs)
