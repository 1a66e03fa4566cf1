"""`--task instances`: every decision for a Mask R-CNN, written into the form of the shipped bundle.

Label maps hold a number for each object; classes stand in the JSON beside a map (`medseg.readers.instance_table`), else all
objects are of one class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.readers.instance_table import InstanceTable, read_table, table_beside
from medseg.training.plan.anchors import anchors_for
from medseg.training.plan.choice import Choice
from medseg.training.plan.classes import mirroring_of
from medseg.training.plan.described import metadata_of
from medseg.training.plan.memory import PROCESS
from medseg.training.plan.normalisation import normalisation_of
from medseg.training.plan.pace import pace_of
from medseg.training.plan.patch import patch_for
from medseg.training.plan.planned import Planned, write_mirror, write_train
from medseg.training.plan.sampling import deformation
from medseg.training.plan.spacing import sizes_at, target_spacing
from medseg.training.plan.template import INSTANCES, configs_of, step, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.readers.cases.case import Case
    from medseg.training.plan.look import Facts
    from medseg.training.plan.sources import Source
    from medseg.training.plan.split import Split

#: Levels of the encoder; the pyramid begins at the second.
_LEVELS = 4
#: Channels of the logits of the semantic head, and of what the other heads keep, beside the encoder's.
_HEADS = 8


def plan_instances(source: Source, facts: Sequence[Facts], split: Split, budget: float, *, plain: bool) -> Planned:
    """Plan a Mask R-CNN; arguments and errors as for `plan_segmentation`.

    Raises:
        InputError: MS-T121 the JSON beside a label map, MS-T150 no object at all.
    """
    train = [one for one in facts if one.name in set(split.train)]
    sizes_mm = np.array([form.size_mm for one in train for form in one.forms.values()])
    if not len(sizes_mm):
        raise InputError(
            "MS-T150", "no label map holds an object", file=source.path, mend="give label maps with objects"
        )
    table, about_classes = _classes(source)
    spacing, about_spacing = target_spacing(train)
    sizes = sizes_at(train, spacing)
    normalisation = normalisation_of(train, source.channels)
    channels = len(source.channels)
    patch = patch_for(sizes, spacing, channels, _HEADS, budget)
    topology = patch.topology.shortened(_LEVELS)
    strides = topology.cumulative()[1:]
    anchors = anchors_for(np.maximum(sizes_mm, spacing), spacing, strides)
    mirror, about_mirror = mirroring_of(table, pairs_swap=False)
    shaken, about_shaken = deformation(patch.size, spacing)
    whole = bool((np.array(patch.size) >= np.median(sizes, axis=0)).all())
    if not whole:
        shaken["instance_key"] = "label"
    validating = [one for one in facts if one.name in set(split.validation)]
    free = max(budget - PROCESS - patch.bytes, 0.0)
    pace = pace_of(sizes, sizes_at(validating, spacing), patch.size, 1, channels, free)
    configs = configs_of(INSTANCES)
    network = {
        "_target_": "medseg.networks.MaskRCNN",
        "in_channels": channels,
        "classes": len(table),
        "anchors": anchors.sizes,
        **topology.arguments(),
        "channels": 32,
        "fine_channels": 16,
        "per_image": 32,
        "min_score": 0.2,
        "dropout": 0.1,
    }
    for name in ("train", "inference"):
        configs[name] |= {"channels": list(source.channels), "labels": table.to_json(), "network_def": network}
    config = configs["train"]
    write_train(config, spacing, normalisation.steps, patch.size, 1, pace, plain=plain)
    instances = step(configs_of(INSTANCES)["train"]["train"]["deterministic_transforms"], "InstancesFromLabeld")
    config["train"]["deterministic_transforms"].append({**instances, "num_classes": len(table)})
    config["validation"] = list(split.validation)
    random = config["train"]["random_transforms"]
    step(random, "RandDeformd").update(shaken)
    write_mirror(random, mirror)
    _write_inference(configs["inference"], spacing, normalisation.steps, None if whole else patch.size, mirror=mirror)
    choices = (
        Choice("split", f"{len(split.train)} train, {len(split.validation)} validate", split.why),
        about_spacing, normalisation.choice, about_classes, patch.choices[0],
        Choice("network", f"Mask R-CNN, levels of {', '.join(map(str, topology.features))} channels", patch.choices[1].why),
        Choice("batch", "1", f"objects of one patch are enough to learn from; {patch.choices[2].why}"),
        anchors.choice, about_shaken, about_mirror,
        Choice(
            "sampling",
            "every patch is a whole scan" if whole else "seven of ten patches around an object",
            "the patch holds the median scan" if whole else "the patch is smaller than the median scan",
        ),
        *pace.choices,
    )  # fmt: skip
    name = str(source.said.get("name") or source.root.resolve().name)
    title, shown = f"{name} instances", ", ".join(row.name for row in table)
    at = " x ".join(f"{mm:g}" for mm in spacing)
    description = f"A 3D Mask R-CNN that finds and outlines each object ({shown}) at {at} mm."
    metadata = metadata_of(
        name=title, task=f"Instance segmentation of {shown}", description=description, said=source.said,
        channels=source.channels, modality=normalisation.modality, table=table, outputs={"0": "instance number"},
        divisor=tuple(2 * d for d in topology.divisor), instances=True,
    )  # fmt: skip
    return Planned(configs, metadata, table, choices, description, title, normalisation.modality, INSTANCES)


def _classes(source: Source) -> tuple[LabelTable, Choice]:
    """Class c is the label c + 1; names come from dataset.json where it has as many."""
    tables = [_table(case) for case in source.cases]
    top = max((max(table.classes.values(), default=0) for table in tables if table.classes is not None), default=0)
    count = top + 1
    labels = source.said.get("labels")
    named = [str(n) for n, v in labels.items() if isinstance(v, int) and v > 0] if isinstance(labels, dict) else []
    named += (
        [str(v) for k, v in labels.items() if isinstance(v, str) and str(k) != "0"] if isinstance(labels, dict) else []
    )
    names = named if len(named) == count else ["object"] if count == 1 else [f"class {n + 1}" for n in range(count)]
    told = sum(table.classes is not None for table in tables)
    why = (
        f"{told} of {len(tables)} label maps have a JSON with classes"
        if told
        else "no JSON beside a label map says a class"
    )
    return LabelTable.from_names(names), Choice("classes", f"{count}: {', '.join(names)}", why)


def _table(case: Case) -> InstanceTable:
    beside = table_beside(str(case.label))
    return read_table(beside) if beside.is_file() else InstanceTable()


def _write_inference(
    config: dict[str, Any],
    spacing: Sequence[float],
    steps: Sequence[dict[str, Any]],
    roi: Sequence[int] | None,
    *,
    mirror: str,
) -> None:
    loading = until(config["preprocessing"]["transforms"], "ToNetworkGridd")
    loading[-1]["spacing_mm"] = list(spacing)
    config["preprocessing"]["transforms"] = [*loading, *steps]
    config["inferer"]["roi_size"] = None if roi is None else list(roi)
    if not mirror:
        config["inferer"].pop("flips", None)
