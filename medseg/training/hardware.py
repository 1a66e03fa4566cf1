"""Where a run computes, and what it may take there: `configs/hardware/NAME.yaml`, or a file of the user's.

Nothing here changes what is learnt: the loader gives the same samples with any number of workers, kept cases are those
that would be read again, and activations that are computed twice are the same twice.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import yaml

import medseg
from medseg.errors import UsageError

_PACKAGE = Path(medseg.__file__).parent


@dataclass(frozen=True)
class Hardware:
    """One machine.

    Args:
        name: of it.
        device: 'cpu' or 'cuda'.
        num_workers: processes that load cases.
        cache_gb: memory for prepared cases, 1e9 bytes; None: half of what is free when the run begins.
        recompute: keep only the activations between blocks, and compute those inside again in the backward pass.
    """

    name: str
    device: str = "cpu"
    num_workers: int = 0
    cache_gb: float | None = None
    recompute: bool = False


def shipped_hardware() -> dict[str, Path]:
    """Name -> file of every machine that is described."""
    for folder in (_PACKAGE / "_shipped" / "configs", _PACKAGE.parent / "configs"):
        found = {path.stem: path for path in sorted((folder / "hardware").glob("*.yaml"))}
        if found:
            return found
    return {}


def load_hardware(name_or_file: str | Path) -> Hardware:
    """A described machine by name, or a YAML file.

    Raises:
        UsageError: MS-T167 no such machine, a file that is not understood, or a device that is not here.
    """
    known = shipped_hardware()
    path = known.get(str(name_or_file), Path(name_or_file))
    if not path.is_file():
        raise UsageError(
            "MS-T167", f"no hardware is called {str(name_or_file)!r}",
            mend=f"choose among {', '.join(known)}, or give a YAML file with the same keys",
        )  # fmt: skip
    try:
        found = _read(path)
    except (ValueError, TypeError, yaml.YAMLError, OSError) as error:
        mend = f"write it like {known.get('cpu', 'configs/hardware/cpu.yaml')}"
        raise UsageError("MS-T167", f"is not understood: {error}", file=path, mend=mend) from error
    if found.device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "MS-T167", "this machine has no GPU that PyTorch can use", file=path,
            mend="type --hardware cpu; medseg doctor says what is wrong with a GPU",
        )  # fmt: skip
    return found


def _read(path: Path) -> Hardware:
    said: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(said, dict):
        msg = f"holds a {type(said).__name__}, not a table"
        raise TypeError(msg)
    known = {one.name for one in fields(Hardware)} - {"name"}
    if unknown := sorted(set(said) - known):
        msg = f"{unknown[0]!r} is none of {', '.join(sorted(known))}"
        raise ValueError(msg)
    found = Hardware(path.stem, **said)
    if found.device not in ("cpu", "cuda"):
        msg = f"device {found.device!r} is neither cpu nor cuda"
        raise ValueError(msg)
    whole = isinstance(found.num_workers, int) and not isinstance(found.num_workers, bool) and found.num_workers >= 0
    if not whole or not isinstance(found.recompute, bool):
        msg = "num_workers is a whole number from 0, recompute is true or false"
        raise ValueError(msg)
    if found.cache_gb is not None and not float(found.cache_gb) >= 0:
        msg = f"cache_gb is a number of GB, got {found.cache_gb}"
        raise ValueError(msg)
    return found
