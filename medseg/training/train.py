"""`medseg train`: a copy of a bundle, trained on labelled cases.

The copy in RUN is a bundle itself: `medseg predict -b RUN` uses it. It declares the domain of the cases that it trains
with instead of the recipe's. What runs is the bundle's own train.json,
the same as with `python -m monai.bundle run`; medseg sets where the data and the results are, the budget, and
goes on from RUN/models/resume_*.pt when asked to.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medseg.bundle.config import read_config
from medseg.bundle.load import build, open_config, running_trusted
from medseg.bundle.shipped import find_bundle
from medseg.bundle.trust import is_trusted
from medseg.bundle.weights import read_weights, require_weights, save_weights
from medseg.errors import InputError, MedsegError, OutputError, UsageError
from medseg.training.datalist import datalist
from medseg.training.domain import declare
from medseg.training.options import Asked, overrides_of
from medseg.training.ranks import first_alone, joined, launched
from medseg.training.transfer import load_fitting
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from monai.bundle import ConfigParser


def train_bundle(
    bundle: str | Path,
    data: Path,
    out: Path,
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    loss: str | None = None,
    init: str | Path | None = None,
    freeze: Sequence[str] = (),
    thaw: float | None = None,
    teachers: Sequence[str | Path] = (),
    pseudo: Path | None = None,
    resume: bool = False,
) -> Path:
    """Train a bundle's network; the processes of torchrun train it together, by the bundle's multi_gpu_train.json.

    Args:
        bundle: folder or shipped name; its weights are not used.
        data: folder with imagesTr and labelsTr; for a planned bundle what was given to `medseg plan`.
        out: the run: a copy of the bundle whose models/ fills with checkpoints and the final weights.
        minutes: budget in minutes; else the epochs of `epochs` or of train.json.
        epochs: budget in epochs.
        loss: one of the bundle's `losses`, instead of the one it names as `base_loss`.
        init: a bundle (folder, shipped name or earlier run) whose weights are the start, as far as they fit.
        freeze: parts of the network, such as 'encoder', that keep the weights of `init`.
        thaw: share of the budget after which they learn too, all at a lower rate.
        teachers: bundles whose probabilities are learnt beside the labels, see `distil`.
        pseudo: what `medseg predict --uncertainty` made of unlabelled cases, see `self_training`.
        resume: go on from the last checkpoint in `out`.

    Returns:
        `out`, now a bundle with fp16 weights.

    Raises:
        InputError: `data` is no folder (MS-T103) or holds no labelled cases (MS-T101, MS-T102), or `resume` finds no checkpoint (MS-T104).
        OutputError: `out` holds something already and `resume` is off (MS-T105).
        UsageError: the bundle has no such loss (MS-T106); others see `options.overrides_of`.
        BundleError: nothing of `init` fits (MS-T170); others see `options.overrides_of`.
    """
    with joined():
        return _train(bundle, data, out, init=init, minutes=minutes, epochs=epochs, loss=loss, freeze=tuple(freeze),
                      thaw=thaw, teachers=tuple(map(str, teachers)), pseudo=pseudo, resume=resume)  # fmt: skip


def _train(bundle: str | Path, data: Path, out: Path, *, init: str | Path | None, resume: bool, **options: Any) -> Path:
    if not data.exists():
        raise InputError("MS-T103", "no such folder", file=data, mend="give a folder with imagesTr and labelsTr")
    root = find_bundle(bundle)
    checkpoint = latest_checkpoint(out) if resume else None
    config = read_config(out if resume else root, "train")
    if options["freeze"] and init is None and not resume:
        what = "--freeze without --init: the parts would keep the weights that they were drawn with"
        raise UsageError("MS-T172", what, mend="name what they come from: --init BUNDLE")
    start = None if init is None or resume else require_weights(find_bundle(init))
    overrides = overrides_of(config, Asked(data, out, resume=resume, bundle=out if resume else root, **options))
    if "medseg.training.datalist" in json.dumps(config):  # say what is wrong with `data` before anything is written
        datalist(str(data), "train", channels=_named_channels(config))
    if checkpoint is None:
        first_alone(lambda: copy_recipe(root, out))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    trusted = is_trusted(root)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with running_trusted(out, trusted):
        metadata = read_config(out, "metadata")
        parser = open_config(out, config, metadata, device=device, trusted=trusted, overrides=overrides)
        with _unwrapped():
            cases = build(parser, ("train#dataset#data",), out)
            first_alone(lambda: declare(out, cases))
        with _unwrapped():
            _run(parser, start, checkpoint)
    first_alone(lambda: save_weights(read_weights(out / "models" / "model.pt"), out))
    return out


def _named_channels(config: dict[str, Any]) -> list[str]:
    """The channels that a recipe's data list looks for by name, [] where it takes one of any name."""
    named = (((config.get("train") or {}).get("dataset") or {}).get("data") or {}).get("channels")
    return list(config.get("channels") or ()) if named == "@channels" else list(named or ())


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


@contextmanager
def _unwrapped() -> Iterator[None]:
    """MONAI wraps what a component or transform raises: let medseg's own refusal through as it was said."""
    try:
        yield
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, MedsegError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from error


def _start_from(weights: Path, networks: Sequence[Any], out: Path) -> None:
    """Put what fits of another network's weights into each, say what does not, and write every name to init.json."""
    state = read_weights(weights)
    found = [load_fitting(network, state, weights) for network in networks]
    if found and launched()[0] == 0:
        logging.getLogger(__name__).info("start from %s: %s\n%s", weights, found[0].words(), found[0].table())
        write_json(out / "init.json", {"weights": str(weights), **found[0].to_json()})


def _run(parser: ConfigParser, start: Path | None, checkpoint: Path | None) -> None:
    """The config's own steps; before "run", weights to start from or a checkpoint to go on from are put in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own deprecations and missing optional codecs
        if "initialize" in parser:
            parser.get_parsed_content("initialize")
        parts = parser.get_parsed_content("checkpoint") if start or checkpoint else {}
        if start is not None:
            _start_from(start, [parts[n] for n in ("model", "ema") if n in parts], Path(parser.get("bundle_root")))
        if checkpoint is not None:
            state = torch.load(checkpoint, weights_only=True, map_location="cpu")
            for name, part in parts.items():
                part.load_state_dict(state[name])
        for step in ("run", "finalize"):
            if step in parser:
                parser.get_parsed_content(step)
