"""Checkpoints of nnU-Net: read with `weights_only`, and a handful of numpy's types that its training log holds.

nnU-Net reads them itself with weights_only=False, which runs whatever program a file carries. Here nothing else is tried
when the safe way fails.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.serialization import safe_globals

from medseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor


def _named() -> list[Callable[..., Any] | tuple[Any, str]]:
    """Numbers and arrays of numpy, under their names of numpy 1 and 2: they hold data and run nothing."""
    core: Any = np._core.multiarray  # type: ignore[attr-defined]
    functions = [core.scalar, core._reconstruct]
    names = [
        (one, f"{module}.multiarray.{one.__name__}") for one in functions for module in ("numpy.core", "numpy._core")
    ]
    dtypes = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")]
    return [*names, np.ndarray, np.dtype, *dtypes]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says.

    Args:
        path: the file.
        weights: of the network, under nnU-Net's names without its duplicates.
        configuration: such as "3d_fullres".
        trainer: name of the class that trained it.
        mirror_axes: spatial axes that prediction may mirror.
    """

    path: Path
    weights: Mapping[str, Tensor]
    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one fold's checkpoint.

    Raises:
        BundleError: MS-B112 it is damaged, or reading it would run code; MS-B152 it is no checkpoint of nnU-Net v2.
    """
    try:
        with safe_globals(_named()):
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, TypeError, KeyError) as error:
        reason = _reason(str(error)) or type(error).__name__
        raise BundleError(
            "MS-B112",
            f"the checkpoint cannot be read without running code: {reason}",
            file=path,
            mend="copy the file again; if it comes from elsewhere, ask for one that nnU-Net's own trainer wrote",
        ) from error
    try:
        axes = found.get("inference_allowed_mirroring_axes")
        return Checkpoint(
            path=path,
            weights=without_duplicates(found["network_weights"]),
            configuration=str(found["init_args"]["configuration"]),
            trainer=str(found["trainer_name"]),
            mirror_axes=() if axes is None else tuple(int(axis) for axis in axes),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            "MS-B152",
            f"this is no checkpoint of nnU-Net v2: {type(error).__name__} {error}",
            file=path,
            mend="give a folder that nnU-Net v2 trained into (version 1 wrote other files)",
        ) from error


def without_duplicates(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """nnU-Net's state dict with each weight once.

    Its layers register their parts twice (`conv` and `all_modules.0`), and its decoder the whole encoder; a compiled
    network has a prefix.
    """
    plain = {key.removeprefix("module.").removeprefix("_orig_mod."): value for key, value in state.items()}
    return {
        key: value
        for key, value in plain.items()
        if ".all_modules." not in key and not key.startswith("decoder.encoder.")
    }


def _reason(text: str) -> str:
    """The line of torch's long message that says what was in the file."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (telling or lines or [""])[0][:300]
