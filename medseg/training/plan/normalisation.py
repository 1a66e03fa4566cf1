"""From grey values to what the network sees.

CT counts Hounsfield units, the same on every scanner: clipped to the range that labelled tissue has in the training cases
(its 0.5 and 99.5 % quantiles) and divided by its standard deviation. Everything else has arbitrary units: each scan is
clipped to its own 0.5 and 99.5 % quantiles and standardised, without the zeros around it where much of the scan is exactly
zero (skull-stripped or masked).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.training.plan.choice import Choice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.plan.look import Facts

#: A channel with values below this in most cases is taken for CT; air is -1000, and MR has no such values.
_AIR = -200.0
#: From this share of exact zeros on a scan counts as masked.
_MASKED = 0.4
_CT = ("ct", "cta", "cect", "ncct", "ldct")


@dataclass(frozen=True)
class Normalisation:
    """How grey values are prepared.

    Args:
        steps: MONAI transforms, as they stand in the configs.
        modality: DICOM's terms for the domain guard; () where nobody knows.
        choice: what and why.
    """

    steps: tuple[dict[str, Any], ...]
    modality: tuple[str, ...]
    choice: Choice


def normalisation_of(facts: Sequence[Facts], channels: Sequence[str]) -> Normalisation:
    """Steps for all channels; CT only where all of them are CT."""
    said = {one.modality for one in facts if one.modality}
    named = [_called_ct(name) for name in channels]
    negative = [np.mean([one.grey[n].low < _AIR for one in facts]) for n in range(len(channels))]
    seen = [bool(share > 0.5) for share in negative]
    if all(named) or said == {"CT"} or all(seen):
        how = "dataset.json says so" if all(named) else "DICOM says so" if said == {"CT"} else "most go below -200"
        return _ct(facts, len(channels), how)
    zeros = [float(np.median([one.grey[n].zeros for one in facts])) for n in range(len(channels))]
    masked = min(zeros) >= _MASKED
    clip: dict[str, Any] = {"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": 0.5, "upper": 99.5}
    clip |= {"b_min": 0.0, "b_max": 1.0, "clip": True}
    scale: dict[str, Any] = {"_target_": "NormalizeIntensityd", "keys": "image"}
    if masked:
        scale["nonzero"] = True
    if len(channels) > 1:
        clip["channel_wise"] = scale["channel_wise"] = True
    span = [f"{min(one.grey[0].low for one in facts):.4g} to {max(one.grey[0].high for one in facts):.4g}"]
    why = f"grey values have no common unit (they range from {span[0]})"
    why += f"; {100 * min(zeros):.0f} % of a scan is exactly 0" + (": zeros are left out" if masked else "")
    value = "each scan clipped to its 0.5 and 99.5 % quantiles, then mean 0 and deviation 1"
    return Normalisation((clip, scale), tuple(sorted(said)), Choice("normalisation", value, why))


def _ct(facts: Sequence[Facts], channels: int, how: str) -> Normalisation:
    pooled = np.concatenate([grey.foreground for one in facts for grey in one.grey[:channels]]).astype(np.float64)
    low, high = np.quantile(pooled, [0.005, 0.995])
    inside = pooled.clip(low, high)
    mean, deviation = float(inside.mean()), max(float(inside.std()), 1.0)
    step = {
        "_target_": "ScaleIntensityRanged",
        "keys": "image",
        "a_min": round(float(low), 1),
        "a_max": round(float(high), 1),
        "b_min": round((float(low) - mean) / deviation, 4),
        "b_max": round((float(high) - mean) / deviation, 4),
        "clip": True,
    }
    value = f"CT: clipped to {low:.0f} to {high:.0f} HU, minus {mean:.0f}, divided by {deviation:.0f}"
    why = f"{how}; the 0.5 and 99.5 % quantiles, mean and deviation of {len(pooled)} voxels under labels"
    return Normalisation((step,), ("CT",), Choice("normalisation", value, why))


def _called_ct(name: str) -> bool:
    return "".join(c for c in name.casefold() if c.isalnum()) in _CT
