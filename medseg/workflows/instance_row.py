"""One instance of one case: what is known of it, as a row of instances.json and of the viewers' table."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from medseg.workflows.measure import EDGE

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Patient axes, in the order of RAS: a coordinate grows towards the right, the front, the head.
AXES = ("R-L", "A-P", "S-I")
HIDDEN = "no voxel of its own on the image's grid"


@dataclass(frozen=True)
class Agreed:
    """What several samples say of one instance; NaN where there is nothing to say.

    Args:
        samples: how many there were.
        frequency: share of them that found it, in (0, 1].
        score_mean: mean score of those.
        score_sd: and the SD.
        class_share: share of those that gave it its class.
        box_sd_mm: SD of the low and the high edge along R-L, A-P, S-I: three lows, three highs, mm.
        volume_sd_ml: SD of the volume of its mask, mL.
        mask_iou: mean IoU of the samples' masks with their mean.
        rare: found by fewer than half of the samples.
    """

    samples: int
    frequency: float
    score_mean: float
    score_sd: float
    class_share: float
    box_sd_mm: tuple[float, ...]
    volume_sd_ml: float
    mask_iou: float
    rare: bool

    def to_json(self) -> dict[str, Any]:
        """As it stands in instances.json; null for what is not defined."""
        return {
            "detection_frequency": _number(self.frequency, 4),
            "rare": self.rare,
            "score_mean": _number(self.score_mean, 6),
            "score_sd": _number(self.score_sd, 6),
            "class_share": _number(self.class_share, 4),
            "box_sd_mm": _by_axis(self.box_sd_mm),
            "volume_sd_ml": _number(self.volume_sd_ml, 6),
            "mask_iou": _number(self.mask_iou, 4),
        }


@dataclass(frozen=True)
class Instance:
    """One instance of one case.

    Args:
        id: its number in the map, by falling score.
        structure: its class in the label table.
        value: of the class in the class map.
        score: in [0, 1]; with samples their mean, 0 for those that did not find it.
        box_mm: RAS mm, three lows and three highs; encloses the outer faces of its voxels.
        centroid_mm: RAS mm, of its voxels.
        volume_ml: of its voxels, mL.
        voxels: in the map.
        cut_by_border: whether it reaches the image's border, beyond which it may go on.
        agreed: what several samples say of it; None where there were none.
    """

    id: int
    structure: str
    value: int
    score: float
    box_mm: tuple[float, ...]
    centroid_mm: tuple[float, ...]
    volume_ml: float
    voxels: int
    cut_by_border: bool
    agreed: Agreed | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """What deserves a second look, in words."""
        told = self.agreed
        rare = [] if told is None or not told.rare else [_rare(told)]
        return (*rare, *[EDGE] * self.cut_by_border, *[HIDDEN] * (not self.voxels))

    def to_json(self) -> dict[str, Any]:
        """As it stands in instances.json."""
        return {
            "id": self.id,
            "structure": self.structure,
            "value": self.value,
            "score": _number(self.score, 6),
            "box_mm": _by_axis(self.box_mm),
            "centroid_mm": [_number(x, 3) for x in self.centroid_mm],
            "volume_ml": _number(self.volume_ml, 6),
            "voxels": self.voxels,
            "cut_by_border": self.cut_by_border,
            **({} if self.agreed is None else self.agreed.to_json()),
            "flags": list(self.flags),
        }

    def row(self, *, outside_domain: str) -> dict[str, object]:
        """As viewers take it: keys as in measurements.csv, the structure is this instance."""
        told = self.agreed
        sd = None if told is None else _number(told.volume_sd_ml, 6)
        return {
            "structure": f"{self.structure} {self.id}",
            "value": self.id,
            "voxels": self.voxels,
            "volume_ml": round(self.volume_ml, 6),
            "volume_sd_ml": "" if sd is None else sd,
            "score": round(self.score, 4),
            "detection_frequency": "" if told is None else round(told.frequency, 4),
            "flags": "; ".join(self.flags),
            "outside_domain": outside_domain,
        }


def _rare(told: Agreed) -> str:
    return f"rare: found by {round(told.frequency * told.samples)} of {told.samples} samples"


def _by_axis(edges: Sequence[float]) -> dict[str, list[float | None]]:
    return {axis: [_number(edges[n], 3), _number(edges[3 + n], 3)] for n, axis in enumerate(AXES)}


def _number(value: float, digits: int) -> float | None:
    return round(float(value), digits) + 0.0 if isfinite(value) else None
