"""A lack of memory is one error with a mend, and nothing else becomes one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.errors import MemoryLimitError
from medseg.workflows.memory import memory_guard


def huge_array():
    return np.empty(2**62, np.uint8)


def huge_tensor():
    return torch.empty(2**61, dtype=torch.uint8)


@pytest.mark.parametrize("allocate", [huge_array, huge_tensor])
def test_what_really_does_not_fit(allocate):
    with pytest.raises(MemoryLimitError) as caught, memory_guard("draw this volume"):
        allocate()
    assert caught.value.code == "MS-M310"
    assert caught.value.what == "there was not enough memory to draw this volume"
    assert "close other programs" in caught.value.mend
    assert isinstance(caught.value.__cause__, (MemoryError, RuntimeError))


@pytest.mark.parametrize("error", [RuntimeError("the size of tensor a must match"), ValueError("out of memory")])
def test_another_error_stays_what_it_is(error):
    with pytest.raises(type(error)) as caught, memory_guard("draw this volume"):
        raise error
    assert caught.value is error
    assert caught.value.__cause__ is None


def test_an_inner_refusal_keeps_its_own_words():
    refused = MemoryLimitError("MS-M101", "no window fits", mend="take smaller windows")
    with pytest.raises(MemoryLimitError) as caught, memory_guard("draw this volume"):
        raise refused
    assert caught.value is refused
