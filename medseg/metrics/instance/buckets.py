"""Detection by size: large lesions are found easily and hide in one number how many small ones are missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.metrics.instance.matching import MatchCounts

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from medseg.metrics.instance.matching import Matching


def by_size(
    matching: Matching, buckets_mm3: Mapping[str, tuple[float, float]], *, voxel_mm3: float
) -> dict[str, MatchCounts]:
    """Counts of every bucket.

    A matched pair and a missed instance belong to the bucket of the reference's size, a superfluous one to that of
    its own. The matching is that of all sizes together: a small lesion found too large is found.

    Args:
        matching: of one case.
        buckets_mm3: name -> (from, below) in mm3.
        voxel_mm3: volume of one voxel, mm3.

    Raises:
        ValueError: a bucket that no size fits into.
    """
    o, out = matching.overlaps, {}
    for name, (low, high) in buckets_mm3.items():
        if not low < high:
            msg = f"a bucket reaches from a volume to a larger one in mm3, got {name!r}: ({low}, {high})"
            raise ValueError(msg)

        def inside(sizes: np.ndarray, low: float = low, high: float = high) -> np.ndarray:
            return (sizes * voxel_mm3 >= low) & (sizes * voxel_mm3 < high)

        ref, pred = inside(o.ref_sizes), inside(o.pred_sizes)
        pairs = matching.pairs[ref[matching.refs]]
        missed = int(ref.sum()) - len(pairs)
        superfluous = int(pred.sum()) - int(pred[matching.preds].sum())
        out[name] = MatchCounts(len(pairs), superfluous, missed, float(o.iou[pairs].sum()))
    return out
