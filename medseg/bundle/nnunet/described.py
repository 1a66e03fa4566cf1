"""metadata.json and the model card of an imported model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import medseg
from medseg.writers.atomic import sha256

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.bundle.nnunet.checkpoint import Checkpoint
    from medseg.bundle.nnunet.labels import Outputs

_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_PAPER = "Isensee et al., nnU-Net, Nature Methods 18, 203-211 (2021)"


def metadata_of(
    title: str, channels: Sequence[str], outputs: Outputs, divisor: Sequence[int], modality: Sequence[str], source: str
) -> dict[str, Any]:
    """What MONAI Label, MONAI Deploy and `medseg bundle check` read.

    Args:
        title: of the bundle, for people.
        channels: of the image.
        outputs: of the network.
        divisor: sizes of a window are multiples of this.
        modality: DICOM's terms, () where nobody knows.
        source: of the data.
    """
    listed = ", ".join(f"{row.value} {row.name}" for row in outputs.table)
    tensor = {
        "type": "image",
        "spatial_shape": [f"{2 * d}*n" for d in divisor],
        "value_range": [],
        "is_patch_data": True,
    }
    image = {
        **tensor,
        "format": "hounsfield" if tuple(modality) == ("CT",) else "magnitude",
        "modality": modality[0] if len(modality) == 1 else "n/a",
        "num_channels": len(channels),
        "dtype": "float32",
        "channel_def": {str(n): name for n, name in enumerate(channels)},
    }
    pred = {
        **tensor,
        "format": "segmentation",
        "num_channels": len(outputs.channels),
        "dtype": "float32",
        "channel_def": {str(n): name for n, name in enumerate(outputs.channels)},
    }
    shown = ", ".join(row.name for row in outputs.table)
    shown = shown if len(shown) < 200 else f"{len(outputs.table)} structures"
    return {
        "schema": _SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": "imported from nnU-Net v2 by medseg bundle import"},
        "monai_version": "1.6.1",
        "pytorch_version": "2.10.0",
        "numpy_version": "1.26.0",
        "required_packages_version": {"medseg": medseg.__version__, "pytorch-ignite": "0.5.2", "nibabel": "5.3.0"},
        "name": title,
        "task": f"Segmentation of {shown}",
        "description": f"A network of nnU-Net v2 that segments {shown}.",
        "authors": "whoever trained it; add their names",
        "copyright": "theirs",
        "data_source": source or "not stated",
        "data_type": "nifti",
        "image_classes": f"{len(channels)} channel{'s' * (len(channels) > 1)}: {', '.join(channels)}",
        "label_classes": f"0 background, {listed}",
        "pred_classes": f"0 background, {listed}",
        "eval_metrics": {},
        "intended_use": "Research. Not a medical device; not for diagnosis or treatment.",
        "references": [_PAPER],
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }


def model_card(
    metadata: Mapping[str, Any],
    dataset: Mapping[str, Any],
    plans: Mapping[str, Any],
    checkpoints: Mapping[str, Checkpoint],
    *,
    mirrored: bool = False,
    axes: str | None = None,
) -> str:
    """docs/README.md.

    Args:
        metadata: of `metadata_of`.
        dataset: dataset.json.
        plans: plans.json.
        checkpoints: fold -> what was read, the bundle's own network first.
        mirrored: logits are averaged over mirror images.
        axes: directions that a file's axes are turned to; None: taken as stored.
    """
    first, *others = checkpoints
    one = checkpoints[first]
    rows = "\n".join(f"| {fold} | {read.path.name} | {sha256(read.path)} |" for fold, read in checkpoints.items())
    members = (
        f"`medseg predict` runs fold {first}, as `nnUNetv2_predict -f {first}` does; `--uncertainty ensemble` runs all "
        f"{len(checkpoints)} folds and says where they disagree.\n"
        if others
        else f"One fold ({first}) was imported, so there is no ensemble.\n"
    )
    mirrors = "Logits are averaged over mirror images, as nnU-Net does by default.\n" if mirrored else ""
    source = str(dataset.get("description") or dataset.get("reference") or dataset.get("name") or "not stated")
    return f"""# {metadata["name"]}

## Description

{metadata["description"]} Trained by nnU-Net v2 and imported by `medseg bundle import`: its preprocessing, windows and
resampling are carried over.

**For research use only. Not a medical device; not for diagnosis or treatment.**

## Where it comes from

Dataset {plans.get("dataset_name", "not stated")}, plans {plans.get("plans_name", "not stated")}, configuration \
{one.configuration}, trainer {one.trainer}, {dataset.get("numTraining", "an unknown number of")} training cases. Data: {source}.

| fold | checkpoint | sha256 |
|---|---|---|
{rows}

{members}{mirrors}Weights are kept in half precision. nnU-Net's own post-processing (largest components) is not imported.

## Performance

What its authors report. `medseg evaluate` measures it on your data.

## Limits

Nothing is known of scans unlike those that it was trained on. Where `configs/inference.json` declares no `domain`,
`medseg predict` cannot refuse them and marks every output so. {_axes(axes)}

## Licence

Of the weights: ask whoever trained them (`data_license.txt`). Of the configuration: Apache-2.0 (`LICENSE`).
"""


def data_license(dataset: Mapping[str, Any]) -> str:
    """docs/data_license.txt."""
    licence = str(dataset.get("licence") or dataset.get("license") or "").strip()
    said = f"dataset.json names the licence of the data: {licence}" if licence else "dataset.json names no licence."
    return f"{said}\nThe licence of the weights is for those who trained them to say.\n"


def _axes(axes: str | None) -> str:
    if axes is not None:
        return f"A file's axes are turned to {axes} first, as of the training cases."
    return "Axes are taken as the file stores them, as nnU-Net does: give it scans stored like its training cases."
