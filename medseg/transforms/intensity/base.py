"""What random changes of intensity have in common: drawn for each channel, applied by a pure function.

About one such change comes up in a patch, so that running several as one pass would save nothing; each is one pass in
itself. All are torch, and run where the image is. None can be undone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform

from medseg.transforms.record import note

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from monai.config import KeysCollection
    from torch import Tensor


class RandIntensityd(RandomizableTransform, MapTransform, ABC):
    """Change the channels of images at random, each by a draw of its own.

    Args:
        keys: images (C, D, H, W); whole numbers become float32.
        prob: probability of changing an image at all.
        channel_prob: probability of each channel of such an image.
        record_key: where to note what was chosen; None: nowhere.
        allow_missing_keys: skip keys that are absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.1,
        channel_prob: float = 1.0,
        record_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.channel_prob = channel_prob
        self.record_key = record_key

    @abstractmethod
    def draw(self) -> Any:
        """One choice, a frozen dataclass, for a channel."""

    @staticmethod
    @abstractmethod
    def apply(channel: Tensor, choice: Any) -> Tensor:
        """A channel (D, H, W), changed; the given one stays as it is."""

    def choose(self, channels: int) -> tuple[Any, ...]:
        """A choice for each channel, None where it stays."""
        if not self.R.rand() < self.prob:
            return (None,) * channels
        hit = [self.channel_prob >= 1 or self.R.rand() < self.channel_prob for _ in range(channels)]
        return tuple(self.draw() if h else None for h in hit)

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Every image changed by draws of its own."""
        out = dict(data)
        for key in self.key_iterator(out):
            choices = self.choose(len(out[key]))
            out[key] = change_channels(out[key], choices, self.apply)
            for channel, choice in enumerate(choices):
                if choice is not None:
                    note(out, self.record_key, choice, keys=[key], channel=channel)
        return out


def change_channels(image: Tensor, choices: Sequence[Any], apply: Any) -> Tensor:
    """(C, D, H, W) with those channels changed that have a choice; itself when none has."""
    if all(choice is None for choice in choices):
        return image
    plain = image.as_tensor() if isinstance(image, MetaTensor) else image
    plain = plain if plain.is_floating_point() else plain.float()
    changed = [x if choice is None else apply(x, choice) for x, choice in zip(plain, choices, strict=True)]
    out = changed[0][None] if len(changed) == 1 else torch.stack(changed)
    return MetaTensor(out).copy_meta_from(image) if isinstance(image, MetaTensor) else out


def pick(random: Any, span: Sequence[float]) -> float:
    """A number drawn evenly from (low, high)."""
    low, high = span
    return float(random.uniform(low, high))
