"""What sites agreed on, written into a bundle once, as fixed values: every site then prepares its scans alike.

Spacing, the steps that prepare grey values and the domain go where `medseg plan` writes them. Where sites label different
structures, the union of labels, a loss for partial labels, and three entries of train.json that each site fills in by itself
(`label_union.site_labels`): `labels_present`, `site_values` and `union_values`.

The result is a recipe: weights were trained with other values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.bundle.config import read_config
from medseg.bundle.config_text import config_text
from medseg.bundle.shipped import find_bundle
from medseg.errors import BundleError, InputError, OutputError
from medseg.federated.stats.agreed_domain import domain_of_sites
from medseg.training.plan.classes import mirroring_of
from medseg.training.plan.planned import write_mirror
from medseg.training.plan.template import step
from medseg.writers.atomic import write_bytes, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.federated.stats.agreement import Agreement
    from medseg.labels import LabelTable

#: What every site may see of the agreement, in the bundle's configs.
AGREED = "agreed.json"
_INTENSITY = frozenset(
    {"ScaleIntensityRangePercentilesd", "ScaleIntensityRanged", "ScaleIntensityd", "NormalizeIntensityd"}
)
#: Steps before those of grey values, and such as concern labels alone.
_OTHER = frozenset({"LoadImaged", "EnsureChannelFirstd", "ToNetworkGridd", "MapLabelValued"})
#: Dice with cross-entropy, as recipes have it, for classes that are labelled in part.
_PARTIAL = {
    "_target_": "medseg.losses.MarginalLoss",
    "loss": {
        "_target_": "medseg.losses.CompoundLoss",
        "losses": [
            {"_target_": "medseg.losses.FocalTverskyLoss", "alpha": 0.5, "beta": 0.5, "gamma": 1.0, "batch": True},
            {"_target_": "medseg.losses.CrossEntropyLoss"},
        ],
    },
}


def write_agreed(bundle: str | Path, agreement: Agreement, out: Path) -> Path:
    """Write a bundle with what was agreed.

    Args:
        bundle: of `medseg plan`, or of the same form; its weights are not copied.
        agreement: of the sites, made with the bundle's labels.
        out: the new bundle; an empty or new folder.

    Returns:
        `out`.

    Raises:
        InputError: MS-J171 too few cases to agree on spacing and grey values.
        OutputError: MS-J172 `out` is not empty.
        BundleError: MS-J173 a bundle of another form.
    """
    root = find_bundle(bundle)
    if agreement.spacing_mm is None or not agreement.steps:
        mend = "let more sites with enough cases take part"
        raise InputError("MS-J171", "the sites tell of too few cases to agree on spacing and grey values", mend=mend)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError("MS-J172", "the bundle's folder is not empty", file=out, mend="give another")
    configs = {name: read_config(root, name) for name in ("train", "inference", "metadata")}
    train, inference = configs["train"], configs["inference"]
    try:
        for steps in (train["train"]["deterministic_transforms"], inference["preprocessing"]["transforms"]):
            _write_grid(steps, agreement)
        union = agreement.union
        if union.table.to_json() != inference.get("labels") or union.partial or union.renumbered:
            _write_labels(configs, union.table, root)
            _write_partial(train, len(union.table) + 1)
    except (KeyError, TypeError, StopIteration) as error:
        raise _another_form(root, f"{type(error).__name__}: {error}") from error
    _without_weights(inference)
    found = domain_of_sites([*agreement.sites.values()])
    inference.pop("domain", None)
    if found is not None:
        inference["domain"] = found.to_json()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and name.parts[0] != "models" and "__pycache__" not in name.parts:
            write_bytes(out / name, path.read_bytes())
    for name in ("train", "inference"):
        write_text(out / "configs" / f"{name}.json", config_text(configs[name]))
    write_text(out / "configs" / AGREED, config_text(agreement.to_json(single_sites=False)))
    write_text(out / "configs" / "metadata.json", config_text(configs["metadata"]))
    return out


def _write_grid(steps: list[dict[str, Any]], agreement: Agreement) -> None:
    names = [one["_target_"].rsplit(".", 1)[-1] for one in steps]
    strange = sorted(set(names) - _INTENSITY - _OTHER)
    if strange:
        msg = f"its preprocessing has {strange[0]}, of which nothing is agreed"
        raise TypeError(msg)
    step(steps, "ToNetworkGridd")["spacing_mm"] = list(agreement.spacing_mm or ())
    kept = [one for one, name in zip(steps, names, strict=True) if name not in _INTENSITY]
    steps[:] = [*kept, *agreement.steps]


def _write_labels(configs: dict[str, dict[str, Any]], table: LabelTable, root: Path) -> None:
    """The union of labels; classes of the network are its values, from 1 on without gaps."""
    train, inference, metadata = configs["train"], configs["inference"], configs["metadata"]
    if any(row.region for row in table) or [row.value for row in table] != list(range(1, len(table) + 1)):
        raise _another_form(root, "labels of several sites are united for values 1, 2, 3 ... that exclude each other")
    changed = table.to_json() != inference.get("labels")
    n = len(table) + 1
    for config in (train, inference):
        config["labels"] = table.to_json()
        config["network_def"]["out_channels"] = n
    step(train["validate"]["postprocessing"]["transforms"], "AsDiscreted")["to_onehot"] = n
    pred = metadata["network_data_format"]["outputs"]["pred"]
    pred["channel_def"] = {"0": "background", **{str(row.value): row.name for row in table}}
    pred["num_channels"] = n
    classes = f"0 background, {', '.join(f'{row.value} {row.name}' for row in table)}"
    metadata["label_classes"] = metadata["pred_classes"] = classes
    random = train["train"]["random_transforms"]
    if changed and any(one["_target_"] == "RandFlipd" for one in random):
        mirror = mirroring_of(table)[0]
        write_mirror(random, mirror)
        if not mirror:
            (inference.get("uncertainty") or {}).pop("mirrors", None)


def _write_partial(train: dict[str, Any], classes: int) -> None:
    """A loss for classes that are labelled in part, and the entries that each site fills in."""
    steps = train["train"]["deterministic_transforms"]
    if any(one["_target_"] == "MapLabelValued" for one in steps):
        msg = "its label values are renumbered already"
        raise TypeError(msg)
    moved = {"_target_": "MapLabelValued", "keys": "label", "orig_labels": "@site_values"}
    steps.insert(steps.index(step(steps, "ToNetworkGridd")) + 1, moved | {"target_labels": "@union_values"})
    random = train["train"]["random_transforms"]
    flags = {"_target_": "medseg.transforms.LabelledClassesd", "keys": "label", "n_classes": classes}
    random.insert(random.index(step(random, "EnsureTyped")), flags | {"labelled": "@labels_present"})
    train |= {"labels_present": None, "site_values": [0], "union_values": [0]}
    train["losses"] = {**train["losses"], "partial": _PARTIAL}
    train["base_loss"] = "@losses#partial"


def _without_weights(inference: dict[str, Any]) -> None:
    """What was fitted to weights that are not there."""
    if isinstance(declared := inference.get("uncertainty"), dict):
        declared.pop("calibration", None)
        declared.pop("ensemble", None)


def _another_form(root: Path, why: str) -> BundleError:
    mend = "plan a bundle with medseg plan, and write the agreement into that"
    return BundleError(
        "MS-J173", f"what was agreed cannot be written into a bundle of this form ({why})", file=root, mend=mend
    )
