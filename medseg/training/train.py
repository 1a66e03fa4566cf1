"""`medseg train`: a copy of a bundle, trained on labelled cases.

The copy in RUN is a bundle itself: `medseg predict -b RUN` uses it. It declares the domain of the cases that it trains
with instead of the recipe's. What runs is the bundle's own train.json,
the same as with `python -m monai.bundle run`; medseg sets where the data and the results are, the budget, and
goes on from RUN/models/resume_*.pt when asked to (`medseg.training.Checkpoints`).
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medseg.bundle.config import read_config
from medseg.bundle.load import build, open_config, running_trusted
from medseg.bundle.shipped import config_path, find_bundle
from medseg.bundle.trust import is_trusted
from medseg.bundle.weights import read_weights, require_weights, save_weights
from medseg.errors import InputError, MedsegError, OutputError, UsageError
from medseg.stop import uncut
from medseg.training.checkpoint_file import checkpoints
from medseg.training.datalist import named_cases, told_of
from medseg.training.domain import declare
from medseg.training.hardware import load_hardware
from medseg.training.headers import require_headers
from medseg.training.lessons import Lessons
from medseg.training.loader import killed
from medseg.training.log import FILE, in_file, on_screen
from medseg.training.mlflow_run import open_store, require_rows, tracked
from medseg.training.options import Asked, kept_of, overrides_of
from medseg.training.ranks import first_alone, joined, launched
from medseg.training.sides import check_sides
from medseg.training.transfer import load_fitting
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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
    lessons: Lessons | None = None,
    smaller: float | None = None,
    hardware: str | None = None,
    validation: Sequence[str] | None = None,
    mlflow: str | None = None,
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
        lessons: what is learnt from beside labels: teachers, cases that nobody labelled; None: nothing.
        smaller: how many times fewer weights the network has than the bundle's.
        hardware: a machine of configs/hardware, or a YAML file; None: a GPU where there is one.
        validation: names of the cases that validate, all others train; None: as the recipe says.
        mlflow: URI of a store of MLflow, or a folder for one, that is told how it goes; not kept for `resume`.
        resume: go on from the last checkpoint in `out`.

    Returns:
        `out`, now a bundle with fp16 weights.

    Raises:
        InputError: `data` is no folder (MS-T103) or holds no labelled cases (MS-T101, MS-T102), or `resume` finds no checkpoint (MS-T104).
        DatasetError: MS-T140 headers refuse files of `data`, or a subject or an image both trains and validates.
        OutputError: `out` holds something already and `resume` is off (MS-T105), or MLflow's store does not answer (MS-T178).
        MissingExtraError: `mlflow` without MLflow (MS-T169).
        UsageError: the bundle has no such loss (MS-T106), or there is no such hardware (MS-T167); others see `options.overrides_of`.
        BundleError: nothing of `init` fits (MS-T170); others see `options.overrides_of`.
    """
    with joined(), on_screen():
        return _train(bundle, data, out, init=init, minutes=minutes, epochs=epochs, loss=loss, freeze=tuple(freeze),
                      thaw=thaw, lessons=lessons or Lessons(), smaller=smaller,
                      hardware=hardware, validation=None if validation is None else tuple(validation),
                      mlflow=mlflow, resume=resume)  # fmt: skip


def _train(
    bundle: str | Path,
    data: Path,
    out: Path,
    *,
    init: str | Path | None,
    mlflow: str | None,
    resume: bool,
    **options: Any,
) -> Path:
    if not data.exists():
        raise InputError("MS-T103", "no such folder", file=data, mend="give a folder with imagesTr and labelsTr")
    root = find_bundle(bundle)
    if resume and not checkpoints(out / "models"):
        mend = "start it without --resume, and remove what a killed run left in the folder before"
        raise InputError("MS-T104", "no checkpoint to go on from", file=out / "models", mend=mend)
    config = read_config(out if resume else root, "train")
    if options["freeze"] and init is None and not resume:
        what = "--freeze without --init: the parts would keep the weights that they were drawn with"
        raise UsageError("MS-T172", what, mend="name what they come from: --init BUNDLE")
    start = None if init is None or resume else require_weights(find_bundle(init))
    asked = Asked(data, out, resume=resume, bundle=out if resume else root, **options)
    overrides, kept = overrides_of(config, asked), kept_of(config, asked)
    if has_datalist(config):  # say what is wrong with `data` before anything is written
        channels = named_channels(config)
        require_headers(list(named_cases(str(data), channels).values()), data)
        for line in first_alone(lambda: told_of(str(data), channels)):
            logging.getLogger(__name__).info("%s", line)
    if mlflow is not None:
        require_rows(config)
        first_alone(lambda: open_store(mlflow) and None)
    with _worth_keeping(out, new=not resume):
        if not resume:
            first_alone(lambda: copy_recipe(root, out))
        first_alone(lambda: _keep(out, kept))
        with in_file(out / FILE) if launched()[0] == 0 else nullcontext():
            _trained(config, overrides, options["hardware"], data, out, start, mlflow, is_trusted(root), resume=resume)
    return out


@contextmanager
def _worth_keeping(out: Path, *, new: bool) -> Iterator[None]:
    """Leave no run that was stopped before its first checkpoint: nothing could go on from it, or begin in its place.

    A folder that held something before is not the run's, and stays in any case.
    """
    ours = new and not (out.is_dir() and any(out.iterdir()))
    try:
        yield
    except KeyboardInterrupt:
        if ours and launched()[0] == 0 and not checkpoints(out / "models"):
            with uncut():
                shutil.rmtree(out, ignore_errors=True)
        raise


def _trained(
    config: dict[str, Any],
    overrides: dict[str, Any],
    hardware: str | None,
    data: Path,
    out: Path,
    start: Path | None,
    mlflow: str | None,
    trusted: bool,
    *,
    resume: bool,
) -> None:
    """Run the config of `out`, and leave its weights."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if hardware is not None:
        device = load_hardware(hardware).device
    with running_trusted(out, trusted):
        metadata = read_config(out, "metadata")
        parser = open_config(out, config, metadata, device=device, trusted=trusted, overrides=overrides)
        with _unwrapped():
            cases = build(parser, ("train#dataset#data",), out)
            validating = build(parser, ("validate#dataset#data",), out)
            first_alone(lambda: _check(cases, validating, data, None if resume else out))
            first_alone(lambda: declare(out, cases))
        with _unwrapped():
            _run(parser, start, mlflow, out)
    first_alone(lambda: save_weights(read_weights(out / "models" / "model.pt"), out))


def has_datalist(config: dict[str, Any]) -> bool:
    """Whether a recipe finds its cases by `medseg.training.datalist`, and so by the names that folds and sites know."""
    return "medseg.training.datalist" in json.dumps(config)


def named_channels(config: dict[str, Any]) -> list[str]:
    """The channels that a recipe's data list looks for by name, [] where it takes one of any name."""
    data = ((config.get("train") or {}).get("dataset") or {}).get("data") or {}
    named = data.get("labelled", data).get("channels")  # pseudo-labels stand behind the labelled cases
    return list(config.get("channels") or ()) if named == "@channels" else list(named or ())


def _check(train: Any, validation: Any, data: Path, new: Path | None) -> None:
    """Refuse a subject or an image on both sides, where both are lists of images and labels; `new` goes then."""
    known = all(isinstance(one, dict) and {"image", "label"} <= set(one) for one in (*train, *validation))
    try:
        if known:
            check_sides(train, validation, data)
    except MedsegError:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
        raise


def copy_recipe(bundle: Path, out: Path) -> None:
    """Copy a bundle without its weights into an empty or new folder."""
    if out.exists() and any(out.iterdir()):
        raise OutputError(
            "MS-T105", "the folder of the run is not empty", file=out, mend="give another, or go on with --resume"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "models").mkdir()  # first: it says whether anything can be written here
        shutil.copytree(bundle, out, ignore=shutil.ignore_patterns("models", "__pycache__"), dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        why = getattr(error, "strerror", None) or str(error)
        mend = "name a folder with -o that you may write to and that has room"
        raise OutputError("MS-O302", f"this folder cannot be written: {why}", file=out, mend=mend) from error


def _keep(out: Path, kept: Mapping[str, Any]) -> None:
    """Write the options that make the run what it is into its own configs; of the network both tell."""
    _write_into(out, "train", kept)
    _write_into(out, "inference", {name: value for name, value in kept.items() if name.startswith("network_def#")})


def _write_into(out: Path, name: str, kept: Mapping[str, Any]) -> None:
    path = config_path(out, name)
    if not kept or path is None:
        return
    config = read_config(out, name)
    for key, value in kept.items():
        *parents, last = key.split("#")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    write_json(out / "configs" / f"{name}.json", config)
    if path.suffix != ".json":
        path.unlink()


@contextmanager
def _unwrapped() -> Iterator[None]:
    """MONAI wraps what a component or transform raises: let medseg's own refusal through as it was said.

    torch tells of a dead worker wherever the main process is: not only while it waits for a batch.
    """
    try:
        yield
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None:
            refusal = cause if isinstance(cause, MedsegError) else killed(cause)
            if refusal is not None:
                raise refusal from error
            cause = cause.__cause__
        raise


def _start_from(weights: Path, networks: Sequence[Any], out: Path) -> None:
    """Put what fits of another network's weights into each, say what does not, and write every name to init.json."""
    state = read_weights(weights)
    found = [load_fitting(network, state, weights) for network in networks]
    if found and launched()[0] == 0:
        logging.getLogger(__name__).info("start from %s: %s\n%s", weights, found[0].words(), found[0].table())
        write_json(out / "init.json", {"weights": str(weights), **found[0].to_json()})


def _run(parser: ConfigParser, start: Path | None, mlflow: str | None, out: Path) -> None:
    """The config's own steps; before "run", weights to start from are put in."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # MONAI's own deprecations and missing optional codecs, for the log
        if "initialize" in parser:
            parser.get_parsed_content("initialize")
        parts = parser.get_parsed_content("checkpoint") if start else {}
        if start is not None:
            _start_from(start, [parts[n] for n in ("model", "ema") if n in parts], Path(parser.get("bundle_root")))
        with tracked(mlflow, out, parser):
            for step in ("run", "finalize"):
                if step in parser:
                    parser.get_parsed_content(step)
