"""Cases with different numbers of instances become one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from monai.data.utils import list_data_collate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def collate_instances(batch: Sequence[Any], classes_key: str = "classes", flags_key: str = "flags") -> Any:
    """A DataLoader's `collate_fn`: as MONAI's, with the tables of instances filled up to the longest.

    Args:
        batch: data dictionaries, or lists of them (several crops of one case), as `InstancesFromLabeld` made them.
        classes_key: (N + 1,) tables, filled up with -1.
        flags_key: (N + 1,) tables, filled up with 0.

    Returns:
        One dictionary; images (B, C, D, H, W), label maps (B, 1, D, H, W), tables (B, longest).
    """
    cases: list[Mapping[str, Any]] = [one for item in batch for one in (item if isinstance(item, list) else [item])]
    longest = max(len(case[classes_key]) for case in cases)
    return list_data_collate(
        [
            {
                **case,
                classes_key: _filled(case[classes_key], longest, -1),
                flags_key: _filled(case[flags_key], longest, 0),
            }
            for case in cases
        ]
    )


def _filled(table: torch.Tensor, length: int, value: int) -> torch.Tensor:
    return torch.nn.functional.pad(table, (0, length - len(table)), value=value)
