"""A label file becomes an instance map with ids 1..N and the tables that say what the ids mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import cc3d
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medseg.errors import InputError, UsageError
from medseg.readers.instance_table import BOX_ONLY, IGNORE, STUFF, InstanceTable, read_table, table_beside
from medseg.transforms.instances.rounded import round_off

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from torch import Tensor

#: Ids below this index a table directly.
_TABLE = 1 << 20


class InstancesFromLabeld(MapTransform):
    """Make of a loaded label map an instance map, and add the tables of classes and flags.

    It may stand before or after `ToNetworkGridd`; the file's name is taken from the tensor's meta.

    Args:
        keys: the one key of the label map, (1, I, J, K) with whole numbers.
        classes_key: gets `classes` (N + 1,) int64, see `medseg.readers.instance_table`.
        flags_key: gets `flags` (N + 1,) uint8.
        from_components: the map is semantic (value v is class v - 1): each connected piece (26 neighbours, one
            value) becomes an instance, and no JSON is read.
        box_only_as: how instances are drawn of which the file knows only the box: "ellipsoid" in the box, whose box
            follows the object's when it is deformed (see `rounded`), or "box" as in the file. Either way only the
            box is true.
        num_classes: K classes of instances; None: any class index is one.
        stuff: so many class indices from K on are regions, not instances, and get the flag `STUFF`; one beyond is
            refused.
        allow_missing_keys: let data without the key pass.

    The map becomes int16, or int32 from 32768 instances on. Ids are renumbered 1..N in rising order of the file's ids.
    """

    def __init__(
        self,
        keys: str,
        classes_key: str = "classes",
        flags_key: str = "flags",
        from_components: bool = False,
        box_only_as: Literal["ellipsoid", "box"] = "ellipsoid",
        num_classes: int | None = None,
        stuff: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise UsageError(
                "MS-U155", f"one label map holds a case's instances, got {len(self.keys)} keys",
                mend='name one: InstancesFromLabeld(keys="label")',
            )  # fmt: skip
        if stuff < 0 or (stuff and num_classes is None):
            raise UsageError(
                "MS-U155", f"stuff={stuff}, num_classes={num_classes}: nothing says which classes have no instances",
                mend='give both: InstancesFromLabeld(keys="label", num_classes=3, stuff=1) makes class 3 stuff',
            )  # fmt: skip
        self.classes_key = classes_key
        self.flags_key = flags_key
        self.from_components = from_components
        self.box_only_as = box_only_as
        self.num_classes = num_classes
        self.stuff = stuff

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Replace the label map, add the two tables.

        Raises:
            InputError: MS-T121 the JSON cannot be used, MS-T122 an instance without a class, with a class beyond
                `num_classes` and `stuff`, or stuff known by a box, MS-T123 values that are not whole numbers from 0.
            UsageError: MS-U155 the tensor is not (1, I, J, K).
        """
        out = dict(data)
        for key in self.key_iterator(out):
            label = out[key]
            if label.ndim != 4 or len(label) != 1:
                raise UsageError(
                    "MS-U155", f"an instance map is (1, I, J, K), {key!r} is {tuple(label.shape)}",
                    mend="load it with LoadImaged(ensure_channel_first=True), before batching",
                )  # fmt: skip
            file = (label.meta.get("filename_or_obj") or None) if isinstance(label, MetaTensor) else None
            values = _whole(label, file)
            if self.from_components:
                ids, classes, flags = _components(values)
            else:
                ids, classes, flags = _renumbered(values, file)
            self._tell_stuff(classes, flags, file)
            if self.box_only_as == "ellipsoid":
                ids = round_off(ids, np.flatnonzero(flags & BOX_ONLY).tolist()) if (flags & BOX_ONLY).any() else ids
            small = len(classes) <= np.iinfo(np.int16).max
            out[key] = _like(torch.from_numpy(ids.astype(np.int16 if small else np.int32))[None], label)
            out[self.classes_key] = torch.from_numpy(classes)
            out[self.flags_key] = torch.from_numpy(flags)
        return out

    def _tell_stuff(self, classes: np.ndarray, flags: np.ndarray, file: str | None) -> None:
        """Flag what is stuff, in place, and refuse what no class says."""
        if self.num_classes is None:
            return
        known = self.num_classes + self.stuff
        if classes.max() >= known:
            raise InputError(
                "MS-T122", f"an instance has class {classes.max()}; there are {known}, counted from 0",
                file=file, mend="correct the classes beside the label map, or give the bundle more of them",
            )  # fmt: skip
        flags[classes >= self.num_classes] |= STUFF
        boxes = (flags & (STUFF | BOX_ONLY)) == STUFF | BOX_ONLY
        if boxes.any():
            raise InputError(
                "MS-T122", f"a region of class {classes[boxes][0]}, which has no instances, is listed as a box",
                file=file, mend='take it out of "box_only": draw its voxels, or list it under "ignore"',
            )  # fmt: skip


def _whole(label: Tensor, file: str | None) -> np.ndarray:
    """(I, J, K) int64 or smaller, >= 0."""
    array = (label.as_tensor() if isinstance(label, MetaTensor) else label)[0].cpu().numpy()
    with np.errstate(invalid="ignore"):
        whole = array if array.dtype.kind in "iu" else array.astype(np.int32)
    if whole.size and (whole.min() < 0 or (whole is not array and (whole != array).any())):
        raise InputError(
            "MS-T123", "a label map of instances holds negative numbers or fractions", file=file,
            mend="store whole numbers: 0 for background, 1, 2, ... for the instances",
        )  # fmt: skip
    return whole


def _components(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, classes and flags of the pieces of a semantic map."""
    ids, count = cc3d.connected_components(np.ascontiguousarray(values), connectivity=26, return_N=True)
    classes = np.full(count + 1, -1, np.int64)
    classes[ids.ravel()] = values.ravel().astype(np.int64) - 1  # equal within a piece; background gives -1
    return ids, classes, np.zeros(count + 1, np.uint8)


def _renumbered(values: np.ndarray, file: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids 1..N in rising order, classes and flags, by the JSON beside `file` if there is one."""
    path = table_beside(file) if file else None
    table = read_table(path) if path is not None and path.is_file() else InstanceTable()
    top = int(values.max(initial=0))
    if top < _TABLE:
        known = np.arange(top + 1)
    else:  # sparse ids: count them off first
        known, inverse = np.unique(np.append(values.ravel(), 0), return_inverse=True)
        values = inverse[:-1].reshape(values.shape)
    present = np.bincount(values.ravel(), minlength=len(known)) > 0
    present[0] = False
    lookup = np.cumsum(present) * present
    known = known[present].tolist()
    classes = np.full(len(known) + 1, -1, np.int64)
    flags = np.zeros(len(known) + 1, np.uint8)
    for row, number in enumerate(known, 1):
        kind = 0 if table.classes is None else table.classes.get(number, -1)
        if kind < 0 and number not in table.ignore:
            raise InputError(
                "MS-T122", f"instance {number} has no class", file=path,
                mend=f'add "{number}": CLASS to "instances", or list {number} under "ignore"',
            )  # fmt: skip
        classes[row] = kind
        flags[row] = BOX_ONLY * (number in table.box_only) | IGNORE * (number in table.ignore)
    return lookup[values], classes, flags


def _like(ids: Tensor, label: Tensor) -> Tensor:
    """The ids as `label` is: on its device, with its meta and affine."""
    ids = ids.to(label.device)
    if not isinstance(label, MetaTensor):
        return ids
    out = MetaTensor(ids, meta=dict(label.meta))
    out.affine = label.affine.clone()
    return out
