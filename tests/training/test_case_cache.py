"""Cases in memory up to a budget: what is kept and what is read anew makes no difference to what comes out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import CacheDataset
from monai.transforms import Compose, Transform

from medseg.training import CaseCache
from medseg.training import case_cache as module
from medseg.training.case_cache import size_of

READS: list[int] = []


class Reader(Transform):
    def __call__(self, item):
        READS.append(item["case"])
        return {"case": item["case"], "image": torch.full((1, 10, 10, 10), float(item["case"]))}


@pytest.fixture(autouse=True)
def fresh():
    READS.clear()


def cases(**options) -> CaseCache:
    data = options.pop("data", [{"case": n} for n in range(6)])
    return CaseCache(data, Compose([Reader(), lambda item: item | {"drawn": True}]), progress=False, **options)


@pytest.mark.parametrize(("memory", "kept"), [(None, 6), (0.0, 0), (4_100e-9, 1), (9_000e-9, 2), (1.0, 6)])
def test_as_many_as_the_budget_holds_are_kept(memory, kept):
    one = cases(memory_gb=memory)
    assert one.cache_num == len(one._cache) == kept
    assert one.cache_bytes == sum(map(size_of, one._cache))
    READS.clear()
    found = [one[n] for n in range(6)]
    assert [int(item["image"].mean()) for item in found] == list(range(6))
    assert list(range(kept, 6)) == READS


def test_a_rate_is_the_most_there_is():
    assert cases(cache_rate=0.5, memory_gb=1.0).cache_num == 3


def test_cases_that_come_twice_are_kept_once():
    data = [{"case": n % 3} for n in range(6)]
    one = cases(data=data, hash_as_key=True, memory_gb=9_000e-9)
    assert one.cache_num == len(one._hash_keys) == 2
    assert [int(one[n]["image"].mean()) for n in range(6)] == [0, 1, 2, 0, 1, 2]


def test_what_is_free_is_shared(monkeypatch):
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: type("Free", (), {"available": 20_000})())
    assert cases().cache_num == 2  # 10,000 bytes for cases of 4,000 and a little


def test_it_is_monais_cache_otherwise():
    assert isinstance(cases(), CacheDataset)
    nested = {"a": [np.zeros(5), {"b": torch.zeros(3, dtype=torch.int16)}], "c": "x"}
    assert size_of(nested) == 40 + 6 + size_of("x")
