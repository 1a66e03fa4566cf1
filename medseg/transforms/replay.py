"""Random changes made again from their record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.transforms.elastic import deform_keys
from medseg.transforms.intensity import (
    BiasField,
    Blur,
    Contrast,
    Gamma,
    LowResolution,
    Noise,
    add_noise,
    adjust_contrast,
    bend_gamma,
    blur,
    lower_resolution,
    shade,
)
from medseg.transforms.intensity.base import change_channels
from medseg.transforms.mirror import Mirror, mirror_image, mirror_labels, swap_values
from medseg.transforms.spline import Deformation

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from torch import Tensor

_INTENSITY: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "BiasField": (BiasField.from_json, shade),
    "Blur": (lambda values: Blur(tuple(values["sigma"])), blur),
    "Contrast": (lambda values: Contrast(**values), adjust_contrast),
    "Gamma": (lambda values: Gamma(**values), bend_gamma),
    "LowResolution": (lambda values: LowResolution(tuple(values["zoom"])), lower_resolution),
    "Noise": (lambda values: Noise(**values), add_noise),
}


def replay(data: Mapping[Hashable, Tensor], record: Iterable[Mapping[str, Any]]) -> dict[Hashable, Tensor]:
    """Apply recorded choices, in their order.

    Args:
        data: the case as it was before the random transforms.
        record: rows as a `record_key` holds them, also after a trip through JSON.

    Returns:
        The case as they left it; plain tensors where a patch was cut.

    Raises:
        ValueError: a row names a choice that nothing here makes.
    """
    out = dict(data)
    for row in record:
        choice, values, keys = row["choice"], row["values"], row["keys"]
        if choice == "Deformation":
            out.update(deform_keys(out, keys, row["label_keys"], Deformation.from_json(values)))
        elif choice == "Mirror":
            mirror = Mirror(tuple(values["axes"]), tuple((a, b) for a, b in values["swap"]))
            for key in keys:
                out[key] = (mirror_labels if key in row["label_keys"] else mirror_image)(out[key], mirror)
            if row["classes_key"] in out:
                out[row["classes_key"]] = swap_values(out[row["classes_key"]], [(a - 1, b - 1) for a, b in mirror.swap])
        elif choice in _INTENSITY:
            made, apply = _INTENSITY[choice]
            for key in keys:
                choices = [made(values) if c == row["channel"] else None for c in range(len(out[key]))]
                out[key] = change_channels(out[key], choices, apply)
        else:
            msg = f"nothing here makes a {choice!r}"
            raise ValueError(msg)
    return out
