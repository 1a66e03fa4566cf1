"""Voxels that count nowhere, where a whole prediction is compared with its label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monai.transforms import MapTransform

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from torch import Tensor


class IgnoreVoxelsd(MapTransform):
    """Make ignored voxels background in the label and in the logits, so that no metric counts them.

    It stands before `AsDiscreted`. In overlaps these voxels then count nowhere; a surface ends at them in both, so that
    distances are those of the known part.

    Args:
        keys: of the label map (1, I, J, K).
        pred: key of the logits (C, I, J, K).
        ignore: value of ignored voxels in the label map.
        sigmoid: the channels are regions; else channel 0 is the background.
    """

    def __init__(self, keys: str = "label", pred: str = "pred", ignore: int = 255, *, sigmoid: bool = False) -> None:
        super().__init__(keys)
        self.pred = pred
        self.ignore = int(ignore)
        self.sigmoid = sigmoid

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """See the class; nothing is changed in place."""
        out = dict(data)
        for key in self.key_iterator(out):
            unknown = (out[key] == self.ignore).to(out[self.pred].device)
            out[key] = out[key].masked_fill(out[key] == self.ignore, 0)
            logits = out[self.pred].masked_fill(unknown, -1.0)
            if not self.sigmoid:
                logits[:1] = logits[:1].masked_fill(unknown, 1.0)
            out[self.pred] = logits
        return out
