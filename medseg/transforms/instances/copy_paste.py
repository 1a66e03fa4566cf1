"""Copy-paste of instances within a case and between cases (Ghiasi et al., Simple Copy-Paste, CVPR 2021)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform

from medseg.boxes.convention import boxes_of_instances, cut_by_border
from medseg.errors import UsageError
from medseg.readers.instance_table import BOX_ONLY, IGNORE, STUFF
from medseg.transforms.instances.check import instance_map
from medseg.transforms.instances.snippet import Snippet, cut_snippet, hidden_share, put_snippet

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from torch import Tensor


class CopyPasted(RandomizableTransform, MapTransform):
    """Paste copies of instances into an image, from itself and from the cases seen before it.

    The transform remembers up to `bank` instances of the cases that went through it. Each case gives up to `most`
    random ones, then takes 1 to `most` of the bank at random places. Copied are instances with a mask that do not
    touch the image's border (a cut face would lie in the open); a copy lies wholly in the image and gets the next
    free id, its class and its flags. All cases must have one spacing and comparable intensities: put it behind
    `ToNetworkGridd` and the scaling of intensities, before patches are cut. Where instances may stand in a case only
    at their anatomical place (vertebrae), leave it out. Stuff (`medseg.readers.instance_table`) is background here: it is
    not copied, and copies lie over it.

    Args:
        keys: the image, (C, I, J, K) floating point.
        label_key: its instance map.
        prob: probability of pasting at all.
        most: most copies a case.
        soft_mm: width of the soft border around a copy.
        most_hidden: a place is refused where the copy would cover more than this share of an instance. Regions to
            ignore and instances that are only boxes are never covered.
        bank: how many instances are remembered; 0: copies stay within a case.
        tries: places tried for each copy.
        classes_key: the table of classes.
        flags_key: the table of flags.
        allow_missing_keys: skip images that are absent.
    """

    #: A sample is made from those before it too (`medseg.training.CaseLoader`).
    remembers = True

    def __init__(
        self,
        keys: str,
        label_key: str,
        prob: float = 0.5,
        most: int = 3,
        soft_mm: float = 1.5,
        most_hidden: float = 0.0,
        bank: int = 32,
        tries: int = 10,
        classes_key: str = "classes",
        flags_key: str = "flags",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if len(self.keys) != 1:
            raise UsageError(
                "MS-U155", f"copies are pasted into one image, got {len(self.keys)} keys",
                mend='name one, with its modalities as channels: CopyPasted(keys="image", label_key="label")',
            )  # fmt: skip
        self.label_key = label_key
        self.most = most
        self.soft_mm = soft_mm
        self.most_hidden = most_hidden
        self.tries = tries
        self.classes_key = classes_key
        self.flags_key = flags_key
        self._bank: deque[Snippet] = deque(maxlen=bank)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> CopyPasted:
        """Seed it, and forget the instances of earlier cases."""
        super().set_random_state(seed, state)
        self._bank.clear()
        return self

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """The case with copies; the tables grow by a row each. Raises UsageError MS-U155 for a label that is no map."""
        out = dict(data)
        for key in self.key_iterator(out):
            everything = instance_map(data, self.label_key)
            if self.classes_key not in data or self.flags_key not in data:
                raise UsageError(
                    "MS-U155", f"nothing says of what class the instances are ({self.classes_key!r} is absent)",
                    mend=f'put InstancesFromLabeld(keys="{self.label_key}") before it',
                )  # fmt: skip
            labels = _without_stuff(everything, data[self.flags_key])
            own = self._own(data[key], labels, data[self.classes_key], data[self.flags_key])
            pool = [*self._bank, *own]
            self._bank.extend(own)
            self.randomize(None)
            if self._do_transform and pool:
                out.update(self._paste(data, key, labels, everything, pool))
        return out

    def _own(self, image: Tensor, labels: Tensor, classes: Tensor, flags: Tensor) -> list[Snippet]:
        """Up to `most` of a case's instances, drawn at random."""
        ids, boxes = boxes_of_instances(labels)
        whole = ~cut_by_border(boxes, labels.shape).any(1) & (flags[ids] == 0)
        ids, boxes = ids[whole], boxes[whole]
        spacing = np.ones(3)
        if isinstance(image, MetaTensor):
            spacing = np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0)
            image = image.as_tensor()
        return [
            cut_snippet(
                image, labels, int(ids[n]), boxes[n].tolist(), spacing_mm=spacing.tolist(), soft_mm=self.soft_mm,
                kind=int(classes[ids[n]]), flags=int(flags[ids[n]]),
            )
            for n in self.R.permutation(len(ids))[: self.most]
        ]  # fmt: skip

    def _paste(
        self, data: Mapping[Hashable, Tensor], key: Hashable, labels: Tensor, everything: Tensor, pool: list[Snippet]
    ) -> dict[Hashable, Tensor]:
        """What changes in a case: image, label map and tables, all new."""
        image = data[key].clone()
        classes, flags = data[self.classes_key].tolist(), data[self.flags_key].tolist()
        labels = labels.to(torch.int32, copy=True)
        for _ in range(self.R.randint(1, self.most + 1)):
            snippet = pool[self.R.randint(len(pool))]
            start = self._place(labels, snippet, flags)
            if start is None:
                continue
            plain = image.as_tensor() if isinstance(image, MetaTensor) else image
            put_snippet(plain, labels, snippet, start, len(classes))
            classes.append(snippet.kind)
            flags.append(snippet.flags)
        label = data[self.label_key].clone()
        if len(classes) - 1 > torch.iinfo(label.dtype).max:
            label = label.to(torch.int32)
        label[0] = torch.where(labels > 0, labels, everything.to(labels.dtype)).to(label.dtype)
        return {
            key: image,
            self.label_key: label,
            self.classes_key: torch.tensor(classes, dtype=torch.int64),
            self.flags_key: torch.tensor(flags, dtype=torch.uint8),
        }

    def _place(self, labels: Tensor, snippet: Snippet, flags: list[int]) -> list[int] | None:
        """First voxel of the copy's box, None when no place was found."""
        low, high = snippet.box
        room = [n - (b - a) for n, a, b in zip(labels.shape, low, high, strict=True)]
        if min(room) < 0:
            return None
        kept = torch.tensor([bool(f & (BOX_ONLY | IGNORE)) for f in flags])
        for _ in range(self.tries):
            start = [int(self.R.randint(0, r + 1)) for r in room]
            here = tuple(slice(s, s + b - a) for s, a, b in zip(start, low, high, strict=True))
            inner = snippet.mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
            beneath = labels[here][inner].long()
            if kept[beneath].any() or hidden_share(labels, snippet, start) > self.most_hidden:
                continue
            return start
        return None


def _without_stuff(labels: Tensor, flags: Tensor) -> Tensor:
    """The map (I, J, K) with background in place of stuff."""
    stuff = (flags & STUFF) > 0
    return torch.where(stuff[labels.long()], 0, labels) if stuff.any() else labels
