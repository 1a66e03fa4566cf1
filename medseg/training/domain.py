"""What a run declares of itself: the domain of the cases that it trains with, and nothing fitted for other weights.

A recipe's domain tells of the scans that it was made for. Carried into a run on somebody's own scans it would refuse
these, so `medseg train` measures them before it trains. Of NIfTI files nobody knows the modality; then every one is
accepted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.bundle.check_instances import INSTANCES
from medseg.bundle.config import read_config
from medseg.bundle.described import read_labels
from medseg.bundle.domain import measure_domain, volumes_ml
from medseg.bundle.shipped import config_path
from medseg.errors import BundleError
from medseg.readers.instance_table import InstanceTable, read_table, table_beside
from medseg.readers.open import read
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.volume import Volume

#: Of more cases so many are measured, spread over all: reading thousands would take longer than training.
MOST = 200


def declare(run: Path, cases: Any) -> None:
    """Write the domain of `cases` into a run's inference config; take out what was fitted for other weights.

    Temperatures and predicted Dice under `uncertainty` go, and an ensemble whose further weights are not in the run.
    Where the domain cannot be measured, none is declared, and outputs will say so.

    Args:
        run: a bundle's folder.
        cases: MONAI's data list, `{"image": path or paths, "label": path}` each; anything else cannot be measured.

    Raises:
        InputError: a scan or label map cannot be read.
    """
    path = config_path(run, "inference")
    if path is None:
        return
    config, metadata = read_config(run, "inference"), read_config(run, "metadata")
    config.pop("domain", None)
    pred = ((metadata.get("network_data_format") or {}).get("outputs") or {}).get("pred") or {}
    try:
        labels = read_labels(config, metadata, run)
        config["domain"] = domain_of(_listed(cases), labels, instances=pred.get("format") == INSTANCES)
    except (ValueError, BundleError) as error:  # no other error of a file: what cannot be read is no training case
        logging.getLogger(__name__).warning("no domain is declared: %s", error)
    if isinstance(declared := config.get("uncertainty"), dict):
        declared.pop("calibration", None)
        weights = (declared.get("ensemble") or {}).get("weights") or ()
        if not all((run / str(name)).is_file() for name in weights):
            declared.pop("ensemble")
    write_json(run / "configs" / "inference.json", config)
    if path.suffix != ".json":
        path.unlink()


def domain_of(cases: Sequence[Mapping[str, Any]], labels: LabelTable, *, instances: bool = False) -> dict[str, Any]:
    """The `domain` of labelled cases.

    Volumes are those of structures that every case has: of others it is no news that one is absent.

    Args:
        cases: `{"image": path or paths of the channels, "label": path}` each; those that a recipe sees several times
            an epoch are measured once.
        labels: what the values of the label maps mean.
        instances: the label maps hold ids, and class c is the label c + 1.

    Raises:
        InputError: a scan or label map cannot be read.
        ValueError: there is no case, or one is constant.
    """
    each = list({(str(case["image"]), str(case["label"])): case for case in cases}.values())
    chosen = each[:: max(1, -(-len(each) // MOST))]
    found = measure_domain((_image(case["image"]) for case in chosen), anatomy="as the cases of this training run")
    volumes = [_volumes(str(case["label"]), labels, instances) for case in chosen]
    everywhere = [name for name in volumes[0] if all(name in one for one in volumes)]
    spans = {name: [one[name] for one in volumes] for name in everywhere}
    found["volume_ml"] = {name: [round(min(ml), 4), round(max(ml), 4)] for name, ml in spans.items()}
    return found


def _listed(cases: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(cases, Sequence) and all(
        isinstance(one, Mapping) and {"image", "label"} <= set(one) for one in cases
    ):
        return cases
    msg = "train#dataset#data is no list of images and labels"
    raise ValueError(msg)


def _image(paths: Any) -> Volume:
    """One scan; several files are its channels."""
    volumes = [read(path) for path in ([paths] if isinstance(paths, str) else paths)]
    if len(volumes) == 1:
        return volumes[0]
    if len({volume.array.shape for volume in volumes}) > 1:
        msg = f"the channels of a scan have different shapes: {[volume.array.shape for volume in volumes]}"
        raise ValueError(msg)
    return replace(volumes[0], array=np.stack([volume.array for volume in volumes]))


def _volumes(path: str, labels: LabelTable, instances: bool) -> dict[str, float]:
    """Volume of every structure that a label map has, mL; not of those of which it draws a box only."""
    label = read(path)
    if not instances:
        return volumes_ml(label, labels)
    beside = table_beside(path)
    known = read_table(beside) if beside.is_file() else InstanceTable()
    ids, places = np.unique(label.array, return_inverse=True)
    values = [_value(int(n), known) for n in ids]
    classes = np.asarray(values, np.int32)[places].reshape(label.array.shape)
    boxed = {_value(n, known) for n in known.box_only}
    unknown = {row.name for row in labels if boxed & set(row.region or (row.value,))}
    found = volumes_ml(replace(label, array=classes), labels)
    return {name: ml for name, ml in found.items() if name not in unknown}


def _value(number: int, known: InstanceTable) -> int:
    """The class value of an instance; 0 for background and what is to be ignored."""
    if number == 0 or number in known.ignore:
        return 0
    return 1 + (0 if known.classes is None else known.classes.get(number, -1))
