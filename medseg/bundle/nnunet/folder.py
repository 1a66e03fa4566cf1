"""A trained nnU-Net folder: plans.json, dataset.json and a checkpoint for each fold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.bundle.config import read_file
from medseg.errors import BundleError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Which checkpoint of a fold: nnU-Net predicts with the final one unless it is told otherwise.
CHECKPOINTS = ("final", "best", "latest")


@dataclass(frozen=True)
class Trained:
    """What is in the folder.

    Args:
        root: the folder.
        plans: plans.json.
        dataset: dataset.json.
        checkpoints: fold ("0", ..., "all") -> its checkpoint, in the order of the ensemble.
    """

    root: Path
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    checkpoints: Mapping[str, Path]


def find_trained(root: Path, folds: Sequence[str] = (), checkpoint: str = "final") -> Trained:
    """Find the files of a trained model.

    Args:
        root: such as `nnUNet_results/Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres`.
        folds: that are wanted, the first becoming the bundle's own network; (): all numbered ones, else "all".
        checkpoint: one of `CHECKPOINTS`.

    Raises:
        BundleError: MS-B150 no such folder, or it holds several models or none; MS-B151 a fold or its checkpoint is not
            there; MS-B104 a JSON file cannot be read.
        UsageError: MS-U174 `checkpoint` is unknown.
    """
    if checkpoint not in CHECKPOINTS:
        raise UsageError("MS-U174", f"no checkpoint is called {checkpoint!r}", mend=f"use {', '.join(CHECKPOINTS)}")
    if not (root / "plans.json").is_file() or not (root / "dataset.json").is_file():
        raise _no_model(root)
    name = f"checkpoint_{checkpoint}.pth"
    there = {
        match[1]: path / name
        for path in sorted(root.glob("fold_*"))
        if (match := re.fullmatch(r"fold_(\d+|all)", path.name)) and (path / name).is_file()
    }
    numbered = sorted((fold for fold in there if fold != "all"), key=int)
    wanted = [str(fold) for fold in folds] or numbered or ["all"]
    missing = [fold for fold in wanted if fold not in there]
    if missing:
        other = sorted({path.name for path in root.glob("fold_*/checkpoint_*.pth")} - {name})
        instead = f"; the folds have {', '.join(other)}" if other and not there else ""
        raise BundleError(
            "MS-B151",
            f"no {name} in {', '.join(f'fold_{fold}' for fold in missing)}{instead}",
            file=root,
            mend=f"--folds {','.join(numbered or there)} imports what is there"
            if there
            else f"let the training finish, or import another one: --checkpoint {' or '.join(CHECKPOINTS[1:])}",
        )
    plans, dataset = _table(root / "plans.json"), _table(root / "dataset.json")
    return Trained(root, plans, dataset, {fold: there[fold] for fold in dict.fromkeys(wanted)})


def _table(path: Path) -> dict[str, Any]:
    data = read_file(path)
    if not isinstance(data, dict):
        raise BundleError(
            "MS-B104", f"holds a {type(data).__name__}, not a table", file=path, mend="mend the file there"
        )
    return data


def _no_model(root: Path) -> BundleError:
    if not root.is_dir():
        return BundleError(
            "MS-B150", "there is no such folder", file=root, mend="give the folder that nnU-Net trained into"
        )
    inside = sorted(path.parent for depth in ("*", "*/*") for path in root.glob(f"{depth}/plans.json"))
    if inside:
        found = ", ".join(str(path.relative_to(root)) for path in inside[:5])
        what = f"holds {len(inside)} trained model{'s' * (len(inside) > 1)}, and one is imported at a time: {found}"
        return BundleError("MS-B150", what, file=root, mend=f"medseg bundle import {inside[0]} -o BUNDLE")
    return BundleError(
        "MS-B150",
        "is no trained nnU-Net v2 model: plans.json or dataset.json is missing",
        file=root,
        mend="give the folder with plans.json, dataset.json and fold_0, such as "
        "nnUNet_results/DatasetXXX_NAME/nnUNetTrainer__nnUNetPlans__3d_fullres",
    )
