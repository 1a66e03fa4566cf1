from __future__ import annotations

import pytest
import torch

from medseg.errors import UsageError
from medseg.workflows.compute import computing, resolve_device


def test_auto_takes_what_is_here():
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:99", ""])
def test_a_device_that_is_not_here_is_refused(name):
    with pytest.raises(UsageError, match=r"MS-U301 there is no device") as caught:
        resolve_device(name)
    assert "medseg doctor" in caught.value.mend


def test_settings_hold_while_it_lasts_and_no_longer():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with computing(threads=1, deterministic=True):
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_no_threads_is_refused():
    with pytest.raises(UsageError, match="MS-U303"), computing(threads=0):
        pass
