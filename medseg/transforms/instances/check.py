"""What transforms of instances are given: one (1, I, J, K) map of integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monai.data import MetaTensor

from medseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from torch import Tensor


def instance_map(data: Mapping[Hashable, Tensor], key: str) -> Tensor:
    """The instance map (I, J, K) of a data dictionary, a plain tensor.

    Raises:
        UsageError: MS-U155, it is absent or no (1, I, J, K) map of integers.
    """
    label = data.get(key)
    if label is None or label.ndim != 4 or len(label) != 1 or label.is_floating_point():
        found = "absent" if label is None else f"{tuple(label.shape)} {label.dtype}"
        raise UsageError(
            "MS-U155", f"an instance map is (1, I, J, K) integers, {key!r} is {found}",
            mend=f'put InstancesFromLabeld(keys="{key}") before it, and batch behind it',
        )  # fmt: skip
    return label.as_tensor()[0] if isinstance(label, MetaTensor) else label[0]
