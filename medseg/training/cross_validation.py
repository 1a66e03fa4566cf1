"""`medseg train --folds K`: a run for each fold in RUN/fold_k, and all of them together as an ensemble bundle in RUN."""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from typing import TYPE_CHECKING, Any

from medseg.bundle.config import read_config
from medseg.bundle.shipped import config_path, find_bundle
from medseg.bundle.weights import read_weights, save_weights
from medseg.errors import OutputError
from medseg.training.checkpoint_file import checkpoints
from medseg.training.datalist import named_cases
from medseg.training.domain import declare
from medseg.training.folds import FILE, Folds, find_folds, fold_of, require_names
from medseg.training.log import on_screen
from medseg.training.patients import HASHED
from medseg.training.ranks import first_alone, joined
from medseg.training.train import has_datalist, named_channels, train_bundle
from medseg.writers.atomic import atomic_write, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: What the PatientIDs of splits.json were hashed with. It stays in the folder of all runs, and is to be shared with nobody.
SALT = "subjects.salt"


def train_folds(
    bundle: str | Path,
    data: Path,
    out: Path,
    *,
    folds: int,
    fold: int | None = None,
    resume: bool = False,
    **options: Any,
) -> Path:
    """Train one fold, or all that are not finished; the last one that is finished makes the ensemble.

    Args:
        bundle: folder or shipped name.
        data: as for `train_bundle`.
        out: gets `splits.json` (and `subjects.salt` where subjects are known by DICOM's PatientID), `fold_0`, `fold_1` and so on, and in the end the ensemble's configs and models.
        folds: how many.
        fold: this one alone, from 0; None: one after the other.
        resume: go on with folds that have a checkpoint.
        options: of `train_bundle`.

    Returns:
        `out` where it is an ensemble now, else the run of the fold.

    Raises:
        DatasetError: MS-T140 a subject or an image on both sides, or another fault of the dataset.
        UsageError: MS-T165 no such fold, or a number of folds that cannot be.
        OutputError: MS-T168 `out` has other folds already.
        MedsegError: as `train_bundle`.
    """
    with joined(), on_screen():
        return _train_folds(bundle, data, out, folds, fold, resume=resume, **options)


def _train_folds(
    bundle: str | Path, data: Path, out: Path, folds: int, fold: int | None, *, resume: bool, **options: Any
) -> Path:
    config = read_config(find_bundle(bundle), "train")
    channels = named_channels(config)
    found = first_alone(lambda: _folds(data, out, folds, channels))
    numbers = range(folds) if fold is None else [fold]
    parts = [fold_of(found, number) for number in numbers]
    if has_datalist(config):
        known = list(named_cases(str(data), channels))
        require_names([name for train, val in parts for name in (*train, *val)], known, data)
    for number, (_, validation) in zip(numbers, parts, strict=True):
        run = out / f"fold_{number}"
        if is_finished(run):
            logging.getLogger(__name__).info("fold %d is trained already", number)
            continue
        going_on = resume and bool(checkpoints(run / "models"))
        train_bundle(bundle, data, run, validation=validation, resume=going_on, **options)
        first_alone(lambda run=run: shutil.copyfile(out / FILE, run / FILE))
    runs = [out / f"fold_{number}" for number in range(folds)]
    if not all(map(is_finished, runs)):
        return runs[numbers[0]]
    first_alone(lambda: join_folds(runs, out, data, channels))
    return out


def is_finished(run: Path) -> bool:
    """Whether a run has come to its end."""
    return (run / "models" / "model.safetensors").is_file()


def join_folds(runs: Sequence[Path], out: Path, data: Path, channels: Sequence[str] = ()) -> None:
    """Make an ensemble bundle of finished runs of one recipe.

    The first run's weights are the bundle's own, the others members of its ensemble
    (`medseg predict --uncertainty ensemble`). Its domain is that of all cases, as each of them trained some member.

    Args:
        runs: bundles with weights.
        out: their ensemble, a bundle.
        data: the cases.
        channels: names of the image's channels, () where there is one.
    """
    for name in ("configs", "docs", "LICENSE"):
        source = runs[0] / name
        if source.is_dir():
            shutil.copytree(source, out / name, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copyfile(source, out / name)
    members = []
    for number, run in enumerate(runs[1:], 1):
        target = out / "models" / f"fold_{number}.safetensors"
        atomic_write(target, lambda path, run=run: shutil.copyfile(run / "models" / "model.safetensors", path))
        members.append(f"models/{target.name}")
    config = read_config(out, "inference")
    config["uncertainty"] = {**(config.get("uncertainty") or {}), "ensemble": {"weights": members}}
    path = config_path(out, "inference")
    write_json(out / "configs" / "inference.json", config)
    if path is not None and path.suffix != ".json":
        path.unlink()
    if has_datalist(read_config(out, "train")):
        declare(out, list(named_cases(str(data), channels).values()))
    save_weights(read_weights(runs[0] / "models" / "model.safetensors"), out)  # last: now `out` is whole


def _folds(data: Path, out: Path, count: int, channels: Sequence[str]) -> Folds:
    path, secret = out / FILE, out / SALT
    salt = bytes.fromhex(secret.read_text(encoding="ascii")) if secret.is_file() else secrets.token_bytes(32)
    found = find_folds(data, count, channels, salt=salt)
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8")).get("folds") != found.to_json()["folds"]:
            raise OutputError(
                "MS-T168", "this folder holds the runs of other folds", file=path,
                mend="give another folder, or the data and the number of folds that it was begun with",
            )  # fmt: skip
    elif out.exists() and any(one.name != SALT for one in out.iterdir()):
        raise OutputError("MS-T105", "the folder of the run is not empty", file=out, mend="give another")
    else:
        if any(subject.startswith(HASHED) for subject in found.subjects.values()):
            write_text(secret, salt.hex() + "\n")  # first: a hash whose salt is lost can never be found again
        write_json(path, found.to_json())
    logging.getLogger(__name__).info("%s", found.why)
    return found
