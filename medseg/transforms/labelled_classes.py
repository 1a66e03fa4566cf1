"""Which classes were labelled in a case, as channels behind its label: what `medseg.losses.MarginalLoss` needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.transforms import MapTransform

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from typing import Any

    from monai.config import KeysCollection

#: As in medseg.losses.marginal: bit k of channel f stands for class 1 + f BITS + k.
BITS = 11


class LabelledClassesd(MapTransform):
    """Append to a label the channels that say which classes were labelled in this case, last of all transforms.

    Spatial transforms would treat the flags as an image. The case's list comes from the data list, such as
    `{"image": ..., "label": ..., "labelled": [1, 4]}`:

        {"_target_": "medseg.transforms.LabelledClassesd", "keys": "label", "n_classes": 5}

    Args:
        keys: labels (C, I, J, K), with distance maps behind if there are any.
        n_classes: classes of the network, the background included.
        labelled_key: where the case's labelled classes stand.
        allow_missing_keys: skip keys that are absent.
        labelled: the labelled classes of cases without this key, such as all of one hospital's; None: they are labelled in
            full.
    """

    def __init__(
        self,
        keys: KeysCollection,
        n_classes: int,
        labelled_key: str = "labelled",
        allow_missing_keys: bool = False,
        labelled: Sequence[int] | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.n_classes = n_classes
        self.labelled_key = labelled_key
        self.labelled = labelled

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Append the channels.

        Raises:
            ValueError: a labelled class that the network does not have.
        """
        out = dict(data)
        everything = range(1, self.n_classes)
        given = out.pop(self.labelled_key, self.labelled)
        labelled = set(everything) if given is None else {int(c) for c in given}
        if not labelled <= set(everything):
            msg = f"{self.labelled_key} is {sorted(labelled)}; the network's classes are 1 to {self.n_classes - 1}"
            raise ValueError(msg)
        flags = [0] * -(-len(everything) // BITS)
        for c in labelled:
            flags[(c - 1) // BITS] |= 1 << (c - 1) % BITS
        for key in self.key_iterator(out):
            label = out[key]
            channels = torch.tensor(flags, dtype=torch.float32).view(-1, *[1] * (label.ndim - 1))
            channels = channels.expand(-1, *label.shape[1:])
            out[key] = torch.cat([label.float(), channels.to(label.device)])
        return out
