"""What was measured of each structure, as tags of its segment: Slicer keeps them with the segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Columns of measurements.csv that become tags, where a row has them.
TAGGED = (
    "volume_ml",
    "volume_sd_ml",
    "score",
    "detection_frequency",
    "entropy_inside",
    "entropy_boundary",
    "predicted_dice",
    "flags",
    "outside_domain",
)


def segment_tags(rows: Iterable[Mapping[str, object]]) -> dict[int, dict[str, str]]:
    """Label value -> tags for `write_seg_nrrd`, such as {1: {"medseg.volume_ml": "12.3"}}.

    Args:
        rows: of measurements.csv; what is empty in them has no tag.
    """
    return {
        int(str(row["value"])): {
            f"medseg.{key}": str(row[key]) for key in TAGGED if row.get(key) is not None and row[key] != ""
        }
        for row in rows
    }
