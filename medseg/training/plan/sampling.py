"""Where patches are cut, and how they are deformed.

Where a patch holds the whole scan there is nothing to choose. Else two thirds of the patches lie around a labelled voxel,
of every structure equally often however small it is, and a third around background (nnU-Net oversamples a third; with less
time to train, more): MONAI cuts a place somewhat larger than the patch, out of which `RandDeformd` then takes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.training.plan.choice import Choice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.plan.classes import Classes

#: The place is so much larger than the patch, so that rotation and zoom find anatomy at its corners.
_ROOM = 1.25
#: A patch that holds so much of the median scan along every axis holds all of it.
_WHOLE = 0.9
#: Displacement of control points relative to their distance; folding needs more than twice as much.
_ELASTIC, _ELASTIC_MOST_MM = 0.2, 4.0
#: Control points of `RandDeformd` along an axis, and the steps between them inside a patch.
_STEPS = 4
#: Voxels of each structure that are remembered of a case as places.
_PLACES = 2000
#: Key of the places; one that begins with "label_" would break MONAI's Spacingd.
_KEY = "-places"


def crops(sizes: np.ndarray, patch: Sequence[int], classes: Classes) -> tuple[list[dict[str, Any]], Choice]:
    """Transforms that come before the deformation, and why; none where patches hold the whole scan."""
    median = np.median(sizes, axis=0)
    if all(p >= _WHOLE * n for p, n in zip(patch, median, strict=True)):
        return [], Choice("sampling", "every patch is a whole scan", "the patch holds the median scan")
    top = max(classes.inside) + 1  # what is ignored has no ratio, or a value beyond
    ratios = [0.0] * top
    ratios[0] = 1.0
    for value in classes.inside:
        ratios[value] = round(2.0 / len(classes.values), 4)
    room = [int(np.ceil(_ROOM * p)) for p in patch]
    steps: list[dict[str, Any]] = [
        {
            "_target_": "ClassesToIndicesd",
            "keys": "label",
            "indices_postfix": _KEY,
            "num_classes": top,
            "max_samples_per_class": _PLACES,
        },
        {
            "_target_": "RandCropByLabelClassesd",
            "keys": ["image", "label"],
            "label_key": "label",
            "spatial_size": room,
            "ratios": ratios,
            "num_classes": top,
            "num_samples": 1,
            "indices_key": f"label{_KEY}",
            "allow_smaller": True,
            "warn": False,
        },
        {"_target_": "DeleteItemsd", "keys": f"label{_KEY}"},
    ]
    share = float(np.prod(patch) / np.prod(median))
    why = f"a patch is {100 * min(share, 1):.2g} % of the median scan, so most places hold no structure"
    value = (
        f"two thirds around a labelled voxel ({len(classes.values)} labels equally often), a third around background"
    )
    return steps, Choice("sampling", value, why)


def deformation(patch: Sequence[int], spacing_mm: Sequence[float]) -> tuple[dict[str, Any], Choice]:
    """Arguments of `RandDeformd` that depend on the patch, and why."""
    extent = [(n - 1) * mm for n, mm in zip(patch, spacing_mm, strict=True)]
    step = min(extent) / _STEPS
    elastic = min(round(_ELASTIC * step, 1), _ELASTIC_MOST_MM)
    rotate = 20.0 if max(extent) <= 2 * min(extent) else 10.0
    why = f"control points stand {step:.3g} mm apart where they are closest, of which {_ELASTIC:.0%}"
    why += f"; the patch is {max(extent) / min(extent):.2g} times as long as it is thick"
    value = f"rotation up to {rotate:g} degrees, zoom 0.8 to 1.25, elastic up to {elastic:g} mm"
    return {"rotate_deg": rotate, "elastic_mm": elastic}, Choice("deformation", value, why)
