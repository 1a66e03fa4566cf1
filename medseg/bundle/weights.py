"""Weights: which file holds them, read without ever running a pickle's code, and put into a network."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from medseg.errors import BundleError
from medseg.writers.atomic import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn


def find_weights(root: Path) -> Path | None:
    """`models/model.safetensors`, else `models/model.pt`, None for a recipe."""
    return next((p for p in (root / "models" / n for n in ("model.safetensors", "model.pt")) if p.is_file()), None)


def require_weights(root: Path) -> Path:
    """Like `find_weights`, for prediction.

    Raises:
        BundleError: MS-B110 when there are none, with the command that trains them; MS-B111 when there is only
            TorchScript, which is code.
    """
    path = find_weights(root)
    if path is not None:
        return path
    if (root / "models" / "model.ts").is_file():
        raise BundleError(
            "MS-B111",
            "its weights are TorchScript (model.ts), which is a program and is not run",
            file=root,
            mend="ask for models/model.pt or model.safetensors, a state dict",
        )
    listed = next((p for p in root.glob("large_files.y*ml")), None)
    mend = f"train it: medseg train {root} DATA -o RUN"
    if listed is not None:
        mend = f"fetch the files listed in {listed.name} into models/, or {mend}"
    raise BundleError("MS-B110", "a recipe: it has no weights yet", file=root, mend=mend)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a safetensors or model.pt file, as stored (fp16 stays fp16), on the CPU.

    A model.pt is read with weights_only=True and nothing else is tried when that fails. `{"model": state_dict}`
    as MONAI's CheckpointSaver writes it is understood.

    Raises:
        BundleError: MS-B112 when it is damaged, holds code or holds no state dict.
    """
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BundleError(
            "MS-B112",
            f"the weights cannot be read without running code: {reason}",
            file=path,
            mend="fetch the file again; if it comes from elsewhere, ask for a plain state dict or safetensors",
        ) from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise BundleError(
            "MS-B112", f"holds a {type(state).__name__}, not a state dict", file=path, mend="save network.state_dict()"
        )
    return state


def load_into(network: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Put a state dict into a network; every key and shape must match, numbers are converted to its dtype.

    Raises:
        BundleError: MS-B113 naming the first keys that are missing, left over or of another shape; MS-B114 when a
            weight is not finite.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    unlike = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    wrong = [f"{what}: {_some(keys)}" for what, keys in (("missing", missing), ("left over", extra)) if keys]
    if unlike:
        wrong.append(_some(unlike))
    if wrong:
        raise BundleError(
            "MS-B113",
            f"the weights do not fit network_def ({'; '.join(wrong)})",
            file=path,
            mend="use the weights that belong to this config, or train it anew",
        )
    broken = [key for key, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        raise BundleError("MS-B114", f"weights are not finite: {_some(broken)}", file=path, mend="train it anew")
    network.load_state_dict(dict(state))


def save_weights(state: Mapping[str, torch.Tensor], root: Path) -> None:
    """Write a state dict into a bundle as fp16, as model.safetensors and as model.pt, which MONAI's tools read.

    Raises:
        BundleError: MS-B114 when a weight is not finite in fp16.
    """
    kept = half(state, root)
    folder = root / "models"
    folder.mkdir(exist_ok=True)
    atomic_write(folder / "model.safetensors", lambda path: save_file(kept, path, metadata={"format": "pt"}))
    atomic_write(folder / "model.pt", lambda path: torch.save(kept, path))


def half(state: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """A state dict in fp16, on the CPU; whole numbers stay.

    Raises:
        BundleError: MS-B114 naming `path` when a weight is not finite in fp16 (its range ends at 65504).
    """
    kept = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in state.items()}
    broken = [key for key, value in kept.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        raise BundleError("MS-B114", f"weights are not finite: {_some(broken)}", file=path, mend="train it anew")
    return kept


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
