"""models/exported.json: what each exported file was made from, and how well it agreed with torch.

    {"schema": "medseg-exported/1", "files": {"models/model.onnx": {
        "format": "onnx", "takes": [null, 1, null, null, null], "sha256": {"models/model.onnx": "..."},
        "weights": "models/model.safetensors", "weights_sha256": "...", "network_sha256": "...",
        "versions": {"torch": "2.13.0", "engine": "ONNX Runtime 1.32.0"},
        "verified": {"labels_equal": 1.0, "largest_difference": 1.1e-05, ...}}}}

A file that was made from other weights, or changed since, is never computed with.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from medseg.errors import BundleError
from medseg.inferers.engine_names import SUFFIXES
from medseg.writers.atomic import sha256, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import nn

RECORD = "models/exported.json"
SCHEMA = "medseg-exported/1"


def read_exported(root: Path) -> dict[str, dict[str, Any]]:
    """File inside the bundle -> its row; {} where nothing was exported.

    Raises:
        BundleError: MS-B123 the record cannot be read.
    """
    path = root / RECORD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA or not all(isinstance(row, dict) for row in found["files"].values()):
            raise ValueError(found["schema"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _stale(path, "is no record of exported files", root) from error
    return dict(found["files"])


def add_exported(root: Path, rows: Mapping[str, dict[str, Any]]) -> None:
    """Write rows into the record; what it says of other files stays."""
    try:
        before = read_exported(root)
    except BundleError:
        before = {}
    write_json(root / RECORD, {"schema": SCHEMA, "files": dict(sorted({**before, **rows}.items()))})


def exported_file(root: Path, weights: Path, network: nn.Module, engine: str) -> Path:
    """The file that an engine opens in place of a network with these weights.

    Raises:
        BundleError: MS-B122 it was not exported; MS-B123 it was made from other weights or another network, or was
            changed since.
    """
    path = weights.with_suffix(SUFFIXES[engine])
    name = path.relative_to(root).as_posix()
    row = read_exported(root).get(name)
    if row is None or not path.is_file():
        members = "" if weights.stem == "model" else " --members"
        raise BundleError(
            "MS-B122",
            f"it has no {name}",
            file=root,
            mend=f"type: medseg bundle export {root} --format {engine}{members}   or predict with --engine torch",
        )
    made_from = weights.relative_to(root).as_posix()
    if row.get("weights") != made_from:
        raise _stale(path, f"was made from other weights than {made_from}", root)
    if row.get("network_sha256") != fingerprint(network):
        raise _stale(path, "was made from another network than inference.json builds now", root)
    if (wrong := _why_stale(root, name, row)) is not None:
        raise _stale(root / wrong[0], wrong[1], root)
    return path


def stale_exports(root: Path) -> Iterator[tuple[str, str]]:
    """(file inside the bundle, what is wrong with it) of every exported file that would be refused for its bytes.

    Raises:
        BundleError: MS-B123 the record cannot be read.
    """
    for name, row in read_exported(root).items():
        if (wrong := _why_stale(root, name, row)) is not None:
            yield wrong


def fingerprint(network: nn.Module) -> str:
    """Of a network's layers and their settings, without the weights: 64 hexadecimal digits."""
    return hashlib.sha256(str(network).encode()).hexdigest()


def _why_stale(root: Path, name: str, row: Mapping[str, Any]) -> tuple[str, str] | None:
    """(file, reason) where a file or the weights that it was made from have changed since."""
    weights = str(row.get("weights"))
    if not (root / weights).is_file() or row.get("weights_sha256") != sha256(root / weights):
        return name, f"was made from other weights than {weights} holds now"
    hashes = row.get("sha256")
    for file, known in hashes.items() if isinstance(hashes, dict) and name in hashes else [(name, "")]:
        if not (root / file).is_file() or sha256(root / file) != known:
            return file, "is not the file that was exported"
    return None


def _stale(path: Path, what: str, root: Path) -> BundleError:
    mend = f"export it again: medseg bundle export {root}   or predict with --engine torch"
    return BundleError("MS-B123", what, file=path, mend=mend)
