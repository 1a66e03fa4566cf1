"""What a loss is told of each voxel beside its label: how doubtful that is, and what a teacher says.

MONAI's trainer hands a loss one target, so these stand behind the label along the channels, and the losses that take
them give the rest on:  label (and distance maps) | doubt | teacher's probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from monai.data.meta_tensor import MetaTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

#: Key of a batch: how doubtful each voxel's label is, in [0, 1]; 0 where somebody drew it.
DOUBT = "doubt"


class Targets:
    """`prepare_batch` of MONAI's trainer for losses that are told more than a label.

    Args:
        doubt: whether the batch holds `DOUBT`.
        teacher: images (B, C, D, H, W) -> probabilities (B, K, D, H, W), such as `Teacher`; None: there is none.
    """

    def __init__(self, *, doubt: bool = False, teacher: Callable[[Tensor], Tensor] | None = None) -> None:
        self.doubt = doubt
        self.teacher = teacher

    def __call__(
        self, batch: Mapping[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **how: Any
    ) -> tuple[Tensor, Tensor]:
        """Images (B, C, D, H, W) and targets (B, 1 + M + doubt + K, D, H, W), float32 where anything stands behind."""

        def there(name: str) -> Tensor:
            tensor = batch[name]
            tensor = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
            return tensor.to(device=device, non_blocking=non_blocking, **how)

        images, parts = there("image"), [there("label")]
        if self.doubt:
            parts.append(there(DOUBT))
        if self.teacher is not None:
            parts.append(self.teacher(images))
        return images, parts[0] if len(parts) == 1 else torch.cat([part.float() for part in parts], 1)
