"""metadata.json of a planned bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import medseg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.labels import LabelTable

_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"


def metadata_of(
    *,
    name: str,
    task: str,
    description: str,
    said: Mapping[str, Any],
    channels: Sequence[str],
    modality: Sequence[str],
    table: LabelTable,
    outputs: Mapping[str, str],
    divisor: Sequence[int],
    instances: bool = False,
) -> dict[str, Any]:
    """What MONAI Label, MONAI Deploy and `medseg bundle check` read.

    Args:
        name: of the bundle, for people.
        task: what it does, for people.
        description: likewise, in a sentence.
        said: dataset.json.
        channels: of the image.
        modality: DICOM's terms, () where nobody knows.
        table: structures.
        outputs: channel -> what it is.
        divisor: sizes of an image are multiples of twice this.
        instances: the output are instances.
    """
    shape = [f"{2 * d}*n" for d in divisor]
    listed = ", ".join(f"{row.value} {row.name}" for row in table)
    tensor = {"type": "image", "spatial_shape": shape, "value_range": [], "is_patch_data": not instances}
    image = {
        **tensor,
        "format": "hounsfield" if tuple(modality) == ("CT",) else "magnitude",
        "modality": modality[0] if len(modality) == 1 else "n/a",
        "num_channels": len(channels),
        "dtype": "float32",
        "channel_def": {str(n): channel for n, channel in enumerate(channels)},
    }
    pred = {
        **tensor,
        "format": "instances" if instances else "segmentation",
        "num_channels": len(outputs),
        "dtype": "int32" if instances else "float32",
        "channel_def": dict(outputs),
    }
    classes = f"instance map: 0 background, 1 to N ({listed})" if instances else f"0 background, {listed}"
    return {
        "schema": _SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": "planned by medseg plan"},
        "monai_version": "1.6.1",
        "pytorch_version": "2.10.0",
        "numpy_version": "1.26.0",
        "required_packages_version": {
            "medseg": medseg.__version__,
            "pytorch-ignite": "0.5.2",
            "nibabel": "5.3.0",
        },
        "name": name,
        "task": task,
        "description": description,
        "authors": "planned by medseg; add your names",
        "copyright": "yours",
        "data_source": str(said.get("reference") or said.get("name") or "your own data"),
        "data_type": "nifti",
        "image_classes": f"{len(channels)} channel{'s' if len(channels) > 1 else ''}: {', '.join(channels)}",
        "label_classes": classes,
        "pred_classes": classes,
        "eval_metrics": {},
        "intended_use": "Research. Not a medical device; not for diagnosis or treatment.",
        "references": ["Isensee et al., nnU-Net, Nature Methods 18, 203-211 (2021)"],
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }
