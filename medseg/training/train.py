"""`medseg train`: a copy of a bundle, trained on labelled cases.

The copy in RUN is a bundle itself: `medseg predict -b RUN` uses it. What runs is the bundle's own train.json,
the same as with `python -m monai.bundle run`; medseg sets where the data and the results are, the budget, and
goes on from RUN/models/resume_*.pt when asked to.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import torch

from medseg.bundle.config import read_config
from medseg.bundle.load import open_config, running_trusted
from medseg.bundle.shipped import find_bundle
from medseg.bundle.trust import is_trusted
from medseg.errors import InputError, OutputError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from monai.bundle import ConfigParser


def train_bundle(
    bundle: str | Path,
    data: Path,
    out: Path,
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    loss: str | None = None,
    resume: bool = False,
) -> Path:
    """Train a bundle's network.

    Args:
        bundle: folder or shipped name; its weights are not used.
        data: folder with imagesTr and labelsTr.
        out: the run: a copy of the bundle whose models/ fills with checkpoints and the final weights.
        minutes: budget in minutes; else the epochs of `epochs` or of train.json.
        epochs: budget in epochs.
        loss: one of the bundle's `losses`, instead of the one it names as `base_loss`.
        resume: go on from the last checkpoint in `out`.

    Returns:
        The trained weights, out/models/model.pt.

    Raises:
        InputError: `data` is no folder (MS-T103), or `resume` finds no checkpoint (MS-T104).
        OutputError: `out` holds something already and `resume` is off (MS-T105).
        UsageError: the bundle has no such loss (MS-T106).
    """
    if not data.is_dir():
        raise InputError("MS-T103", "no such folder", file=data, mend="give a folder with imagesTr and labelsTr")
    root = find_bundle(bundle)
    checkpoint = latest_checkpoint(out) if resume else None
    if checkpoint is None:
        copy_recipe(root, out)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = read_config(out, "train")
    overrides: dict[str, Any] = {"dataset_dir": str(data), "output_dir": str(out / "models")}
    if minutes is not None:
        overrides |= {"minutes": minutes, "epochs": 1_000_000}  # the minutes end the run
    if epochs is not None:
        overrides["epochs"] = epochs
    if loss is not None:
        if loss not in config.get("losses", {}):
            known = ", ".join(config.get("losses", {})) or "none"
            raise UsageError("MS-T106", f"this bundle has no loss {loss!r}", mend=f"choose one of: {known}")
        overrides["base_loss"] = f"@losses#{loss}"
    trusted = is_trusted(root)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with running_trusted(out, trusted):
        metadata = read_config(out, "metadata")
        _run(open_config(out, config, metadata, device=device, trusted=trusted, overrides=overrides), checkpoint)
    return out / "models" / "model.pt"


def copy_recipe(bundle: Path, out: Path) -> None:
    """Copy a bundle without its weights into an empty or new folder."""
    if out.exists() and any(out.iterdir()):
        raise OutputError(
            "MS-T105", "the folder of the run is not empty", file=out, mend="give another, or go on with --resume"
        )
    shutil.copytree(bundle, out, ignore=shutil.ignore_patterns("models", "__pycache__"), dirs_exist_ok=True)
    (out / "models").mkdir()


def latest_checkpoint(out: Path) -> Path:
    """The newest checkpoint of a run."""
    found = sorted((out / "models").glob("resume_*.pt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(
            "MS-T104", "no checkpoint to go on from", file=out / "models", mend="start the run without --resume"
        )
    return found[-1]


def _run(parser: ConfigParser, checkpoint: Path | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own deprecations and missing optional codecs
        for step in ("initialize", "run", "finalize"):
            if step == "run" and checkpoint is not None:
                state = torch.load(checkpoint, weights_only=True, map_location="cpu")
                for name, part in parser.get_parsed_content("checkpoint").items():
                    part.load_state_dict(state[name])
            if step in parser:
                parser.get_parsed_content(step)
