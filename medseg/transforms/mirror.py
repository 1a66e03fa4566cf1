"""Mirroring that keeps left and right: a mirrored image shows another body, whose left kidney is again on the left.

Mirrored along the axis that runs from left to right, paired labels swap (the mirrored left kidney looks like, and is
taken for, a right one). Mirrored along another axis they do not: the body stands on its head, but nothing changes
sides. Pairs come from the label table (`"mirror"`), the axis from the affine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, RandomizableTransform
from monai.utils import TraceKeys

from medseg.errors import UsageError
from medseg.labels import LabelTable
from medseg.transforms.record import note

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from monai.config import KeysCollection
    from torch import Tensor


@dataclass(frozen=True)
class Mirror:
    """Which axes (0, 1, 2) are mirrored, and which labels trade values.

    Args:
        axes: spatial axes.
        swap: pairs of label values; none where no axis from left to right is mirrored.
    """

    axes: tuple[int, ...]
    swap: tuple[tuple[int, int], ...] = ()


def mirror_pairs(table: LabelTable) -> tuple[tuple[int, int], ...]:
    """Pairs of values whose structures are each other's mirror image, each pair once.

    Raises:
        UsageError: MS-U156, a structure is the mirror image of two.
    """
    partner: dict[int, int] = {}
    for label in table:
        if label.mirror is None or label.mirror == label.name:
            continue
        other = table.by_name[label.mirror].value
        for a, b in ((label.value, other), (other, label.value)):
            if partner.setdefault(a, b) != b:
                raise UsageError(
                    "MS-U156", f"label {a} is the mirror image of {partner[a]} and of {b}",
                    mend='let "mirror" name one partner, and its partner the label',
                )  # fmt: skip
    return tuple((a, b) for a, b in sorted(partner.items()) if a < b)


def mirror_image(image: Tensor, choice: Mirror) -> Tensor:
    """(C, D, H, W) mirrored; its own inverse."""
    return image.flip([axis + 1 for axis in choice.axes]) if choice.axes else image


def mirror_labels(labels: Tensor, choice: Mirror) -> Tensor:
    """(L, D, H, W) label map mirrored, paired values swapped; its own inverse."""
    return swap_values(mirror_image(labels, choice), choice.swap)


def swap_values(labels: Tensor, pairs: Iterable[tuple[int, int]]) -> Tensor:
    """A copy where each value of a pair stands for the other."""
    out = labels
    for a, b in pairs:
        out = out.clone() if out is labels else out
        first, second = labels == a, labels == b
        out[first], out[second] = b, a
    return out


class RandMirrord(RandomizableTransform, MapTransform, InvertibleTransform):
    """Mirror along each of some axes with probability 1/2, and swap left and right labels where sides change.

    Invertible as MONAI's flips are: on MetaTensors, by `inverse` or `Invertd` (a mirrored label map gets its values
    back too). Other than MONAI's `RandFlipd` it leaves the affine as it is: what lies in the array is a mirrored body
    on the same grid, not the same body stored in another order.

    Args:
        keys: images and label maps (C, D, H, W) on one grid.
        label_keys: those of `keys` that hold label maps.
        axes: spatial axes that may be mirrored.
        prob: probability of an axis.
        labels: the bundle's table of labels (rows with `"value"`, `"name"`, `"mirror"`), or pairs of values; None:
            nothing is swapped. Instance maps are never swapped: leave their key out of `label_keys`, and name the table
            of their classes.
        classes_key: the table of classes of an instance map: class c is label c + 1 of the table.
        axcodes: patient directions of the array's axes, as given to `ToNetworkGridd`, for tensors without an affine
            (patches of `RandDeformd`). A tensor's own affine goes first.
        record_key: where to note what was chosen; None: nowhere.
        allow_missing_keys: skip keys that are absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: str | Sequence[str] = (),
        axes: Sequence[int] = (0, 1, 2),
        prob: float = 0.5,
        labels: Sequence[Mapping] | Sequence[Sequence[int]] | LabelTable | None = None,
        classes_key: str | None = None,
        axcodes: str | None = None,
        record_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.label_keys = {label_keys} if isinstance(label_keys, str) else set(label_keys)
        self.axes = tuple(int(axis) for axis in axes)
        self.axis_prob = prob
        self.pairs = _pairs(labels)
        self.classes_key = classes_key
        self.axcodes = axcodes
        self.record_key = record_key

    def choose(self, lateral: int | None) -> Mirror:
        """Draw the axes; `lateral` is the one from left to right, None where no sides are known."""
        axes = tuple(axis for axis in self.axes if self.R.rand() < self.axis_prob)
        return Mirror(axes, self.pairs if lateral in axes else ())

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """All keys mirrored alike; raises UsageError MS-U156 where pairs are given and nothing says what is left."""
        out = dict(data)
        keys = list(self.key_iterator(out))
        choice = self.choose(self._lateral([out[key] for key in keys]) if self.pairs else None)
        self._do_transform = bool(choice.axes)
        for key in keys:
            out[key] = self._track(self._apply(out[key], key, choice), choice)
        if self.classes_key is not None and self.classes_key in out and choice.swap:
            out[self.classes_key] = swap_values(out[self.classes_key], [(a - 1, b - 1) for a, b in choice.swap])
        labels = [key for key in keys if key in self.label_keys]
        note(out, self.record_key, choice, keys=keys, label_keys=labels, classes_key=self.classes_key)
        return out

    def inverse(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Undo the last mirroring of every key that is a MetaTensor; the table of classes stays as it is."""
        out = dict(data)
        for key in self.key_iterator(out):
            value = out[key].clone()  # with a list of operations of its own
            info = self.pop_transform(value)[TraceKeys.EXTRA_INFO]
            pairs = [(int(a), int(b)) for a, b in np.reshape(info["swap"], (-1, 2))]
            out[key] = self._apply(value, key, Mirror(tuple(int(n) for n in info["axes"]), tuple(pairs)))
        return out

    def _apply(self, value: Tensor, key: Hashable, choice: Mirror) -> Tensor:
        plain = value.as_tensor() if isinstance(value, MetaTensor) else value
        moved = (mirror_labels if key in self.label_keys else mirror_image)(plain, choice)
        if not isinstance(value, MetaTensor):
            return moved
        return MetaTensor(moved if moved is not plain else plain.clone()).copy_meta_from(value)

    def _track(self, value: Tensor, choice: Mirror) -> Tensor:
        if isinstance(value, MetaTensor):
            info = {"axes": list(choice.axes), "swap": [list(pair) for pair in choice.swap]}
            self.push_transform(value, extra_info=info)
        return value

    def _lateral(self, values: Sequence[Tensor]) -> int:
        """The axis that runs nearest to the patient's left-right direction."""
        for value in values:
            if isinstance(value, MetaTensor) and value.affine.shape == (4, 4):
                directions = value.affine[:3, :3].cpu().double()
                return int((directions[0].abs() / directions.norm(dim=0)).argmax())
        found = [axis for axis, code in enumerate(self.axcodes or "") if code in "LR"]
        if len(found) != 1:
            raise UsageError(
                "MS-U156", "labels come in pairs, but nothing says along which axis left and right lie",
                mend='give the directions of the axes: RandMirrord(..., axcodes="RAS")',
            )  # fmt: skip
        return found[0]


def _pairs(labels: Sequence[Mapping] | Sequence[Sequence[int]] | LabelTable | None) -> tuple[tuple[int, int], ...]:
    if labels is None:
        return ()
    if isinstance(labels, LabelTable):
        return mirror_pairs(labels)
    rows = list(labels)
    if all(isinstance(row, dict) for row in rows):
        return mirror_pairs(LabelTable.from_json(rows))  # type: ignore[arg-type]
    pairs = tuple((int(a), int(b)) for a, b in rows)  # type: ignore[misc]
    values = [value for pair in pairs for value in pair]
    if len(set(values)) != len(values):
        raise UsageError(
            "MS-U156", f"a label is in two pairs: {sorted(v for v in set(values) if values.count(v) > 1)}",
            mend="name each left and right label once: labels=[[1, 2], [3, 4]]",
        )  # fmt: skip
    return pairs
