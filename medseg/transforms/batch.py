"""Random transforms on batches, where these are: on a GPU after loading, with draws of its own for each sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from monai.data import MetaTensor
from monai.transforms import Compose

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence


class AugmentBatch:
    """Run dictionary transforms over the samples of a batch.

    medseg's random transforms compute on the device of their tensors. Their choices are drawn on the CPU by numpy, so
    that a seed chooses the same everywhere; only the values of noise come from the device's own generator.

    Args:
        keys: tensors (B, ...) of the batch that the transforms see; all else is passed on.
        transforms: dictionary transforms, medseg's or MONAI's.
        seed: of their draws; None: from the system.
    """

    def __init__(self, keys: Sequence[str], transforms: Sequence[Any], seed: int | None = None) -> None:
        self.keys = tuple(keys)
        self.transforms = tuple(transforms)
        if seed is not None:
            Compose(transforms).set_random_state(seed)

    @torch.no_grad()
    def __call__(self, batch: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The batch with `keys` replaced by plain tensors."""
        present = [key for key in self.keys if key in batch]
        plain = {key: batch[key].as_tensor() if isinstance(batch[key], MetaTensor) else batch[key] for key in present}
        samples: list[Any] = [{key: plain[key][b] for key in present} for b in range(len(plain[present[0]]))]
        for transform in self.transforms:
            together = getattr(transform, "on_batch", None)
            samples = together(samples) if together else [transform(sample) for sample in samples]
        stacked = {}
        for key in present:
            values = [sample[key] for sample in samples]
            stacked[key] = torch.stack([v.as_tensor() if isinstance(v, MetaTensor) else v for v in values])
        return {**batch, **stacked}
