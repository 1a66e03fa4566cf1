"""Prepared cases in memory, as many as a budget allows."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from monai.data import CacheDataset
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Of the memory that is free, where no budget is given.
SHARE = 0.5


class CaseCache(CacheDataset):
    """MONAI's CacheDataset, filled up to a number of bytes instead of a share that somebody has to guess.

    Cases are prepared and measured one after the other; those that do not fit any more are read in every epoch.

    Args:
        data: MONAI's data list.
        transform: what prepares a case (kept) and what makes a sample of it (drawn anew).
        cache_rate: share of the cases that are kept at most.
        memory_gb: what they may take, 1e9 bytes; None: half of what is free.
        kwargs: of CacheDataset.

    Attributes:
        cache_bytes: what is kept.
    """

    def __init__(
        self,
        data: Sequence,
        transform: Sequence[Callable] | Callable | None = None,
        cache_rate: float = 1.0,
        memory_gb: float | None = None,
        **kwargs: Any,
    ) -> None:
        self.memory_gb = memory_gb
        self.cache_bytes = 0
        super().__init__(data, transform, cache_rate=cache_rate, **kwargs)

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list:
        wanted = range(self.cache_num) if indices is None else indices
        budget = self.memory_gb * 1e9 if self.memory_gb is not None else SHARE * psutil.virtual_memory().available
        kept: list[Any] = []
        self.cache_bytes = 0
        for index in wanted:
            if self.cache_bytes >= budget:
                break
            item = self._load_cache_item(index)
            size = size_of(item)
            if self.cache_bytes + size > budget:
                break
            kept.append(item)
            self.cache_bytes += size
        if len(kept) < len(wanted):
            logging.getLogger(__name__).info(
                "%d of %d cases are kept in memory (%.1f GB); the others are read in every epoch",
                len(kept), len(self.data), self.cache_bytes / 1e9,
            )  # fmt: skip
        self.cache_num = len(kept)
        self._hash_keys = self._hash_keys[: self.cache_num]
        return kept


def size_of(item: Any) -> int:
    """Bytes of all arrays and tensors in nested tables and lists; of anything else a little."""
    if isinstance(item, dict):
        return sum(map(size_of, item.values()))
    if isinstance(item, list | tuple):
        return sum(map(size_of, item))
    if isinstance(item, Tensor | np.ndarray):
        return int(item.nbytes)
    return sys.getsizeof(item)
