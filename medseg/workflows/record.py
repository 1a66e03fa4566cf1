"""record.json: everything needed to trust a result and to make it again, and no patient data.

Hashes, geometry and decisions of the input stand in it; names, dates, UIDs and free text of DICOM tags do not.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

import medseg
from medseg.workflows.identity.teller import plain
from medseg.writers.atomic import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from medseg.volume import Volume
    from medseg.workflows.identity.teller import Teller

SCHEMA = "medseg-record/1"
RESEARCH = "research use only; not a medical device"
OUTSIDE = "OUTSIDE TRAINING DOMAIN"


def versions() -> dict[str, str]:
    """Versions of what computed the result: medseg, Python, and every library that medseg asks for."""
    found = {"medseg": medseg.__version__, "python": platform.python_version()}
    return found | {name: metadata.version(name) for name in _libraries()}


@cache
def _libraries() -> tuple[str, ...]:
    asked = (Requirement(line) for line in metadata.requires("medseg") or ())
    needed = {one.name for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})}
    return tuple(sorted(needed | {"pillow"}))  # matplotlib's, which writes preview.png


def describe_bundle(bundle: Any) -> dict[str, Any]:
    """Name, version and the hash of every file that makes up a bundle."""
    return {"name": bundle.name, "version": bundle.version, "sha256": dict(sorted(bundle.hashes.items()))}


def describe_input(volume: Volume, roots: Iterable[Path] = (), teller: Teller | None = None) -> dict[str, Any]:
    """What was read: files with hashes, place in space, and what the reader decided.

    Args:
        volume: as read.
        roots: the files or folders of the case, in the order of its channels.
        teller: tells where they are: relative to the input, or by pseudonyms (then `key` tells of which key); None: by
            their names.
    """
    source, grid = volume.source, volume.grid
    roots = tuple(roots)
    teller = teller or plain(roots)
    return {
        "paths": [teller.root(path) for path in roots],
        "key": None if teller.key is None else teller.key.mark,
        "files": hash_files(roots, source.files, teller),
        "format": source.format,
        "modality": source.modality,
        "series_number": source.series_number,
        "channels": list(source.channels),
        "shape": list(grid.shape),
        "spacing_mm": [round(s, 6) for s in grid.spacing_mm],
        "affine_ras": grid.affine.tolist(),
        "orientation": grid.axcodes,
        "decisions": [asdict(decision) for decision in source.decisions],
    }


def describe_machine(device: str) -> dict[str, Any]:
    """The device, the card behind it when it is a GPU, torch's CPU threads, and the system."""
    import torch

    found = {
        "device": device,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",  # what kernels are chosen by
    }
    return found | ({"gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {})


def describe_inferer(inferer: Any) -> dict[str, Any]:
    """Class and settings of an inferer, medseg's or MONAI's."""
    settings = ("roi_size", "overlap", "mode", "sw_batch_size", "precision", "output", "body_threshold")
    settings += ("min_score", "mask_iou", "mask_iom", "flips", "min_stuff_mm3")  # of instances
    found = {name: getattr(inferer, name) for name in settings if hasattr(inferer, name)}
    plain = {k: list(v) if isinstance(v, tuple | list) else v for k, v in found.items()}
    kind = type(inferer)
    return {
        "inferer": f"{kind.__module__}.{kind.__qualname__}",
        **{k: v if isinstance(v, int | float | str | list | None) else str(v) for k, v in plain.items()},
    }


def hash_files(roots: tuple[Path, ...], files: Iterable[Path], teller: Teller | None = None) -> list[dict[str, Any]]:
    """Every file's size, sha256, and name relative to the folder that its root is or lies in, told by the teller."""
    teller = teller or plain(roots)
    rows = []
    for file in files:
        index = next((n for n, root in enumerate(roots) if file == root or root in file.parents), 0)
        name = os.path.relpath(file, _base(roots[index])) if roots else file.name
        rows.append(
            {
                "root": index,
                "name": teller.name(name),
                "bytes": file.stat().st_size,
                "sha256": sha256(file),
            }
        )
    return rows


def changed_input(
    roots: tuple[Path, ...], rows: Iterable[Mapping[str, Any]], teller: Teller | None = None
) -> str | None:
    """The first file of a record that is gone or differs now, None when all are as they were."""
    known: dict[int, dict[str, Path]] = {}
    for row in rows:
        name, root = str(row["name"]), int(row["root"])
        if root >= len(roots):
            return name
        if teller is None or teller.key is None:
            file = _base(roots[root]) / name
        else:
            file = known.setdefault(root, _by_told_name(roots[root], teller)).get(name)
        if file is None or not file.is_file() or file.stat().st_size != row["bytes"] or sha256(file) != row["sha256"]:
            return name
    return None


def _by_told_name(root: Path, teller: Teller) -> dict[str, Path]:
    base = _base(root)
    files = root.rglob("*") if root.is_dir() else base.iterdir()
    return {teller.name(file.relative_to(base).as_posix()): file for file in files if file.is_file()}


def _base(root: Path) -> Path:
    return root if root.is_dir() else root.parent


def read_record(path: Path) -> dict[str, Any] | None:
    """A record, or None when there is none that can be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("schema") == SCHEMA else None


def now() -> str:
    """This moment, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def peak_memory_mb() -> float:
    """The most memory this process has held so far, MB."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
