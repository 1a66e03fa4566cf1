"""Machines that runs compute on."""

from __future__ import annotations

import pytest
import torch

from medseg.errors import UsageError
from medseg.training.hardware import Hardware, load_hardware, shipped_hardware


def test_the_shipped_ones_are_understood(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = {name: load_hardware(name) for name in shipped_hardware()}
    assert set(found) == {"cpu", "gpu16", "gpu80"}
    assert found["cpu"] == Hardware("cpu")
    assert found["gpu16"].recompute
    assert found["gpu80"].cache_gb > found["gpu16"].cache_gb
    assert {found[name].device for name in ("gpu16", "gpu80")} == {"cuda"}


def test_a_gpu_that_is_not_there_is_told_before_anything_is_done(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"MS-T167 [\s\S]*gpu16.yaml: this machine has no GPU[\s\S]*--hardware cpu"):
        load_hardware("gpu16")


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "desk.yaml"
    path.write_text("num_workers: 3\ncache_gb: 1.5\n")
    assert load_hardware(path) == Hardware("desk", "cpu", 3, 1.5)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gpus: 8", "'gpus' is none of cache_gb, device"),
        ("device: tpu", "neither cpu nor cuda"),
        ("num_workers: -1", "whole number"),
        ("num_workers: true", "whole number"),
        ("recompute: 1", "true or false"),
        ("cache_gb: -3", "number of GB"),
        ("cache_gb: much", "much"),
        ("- cpu", "a list, not a table"),
        ("a: [", "not understood"),
    ],
)
def test_what_is_not_understood_is_told(tmp_path, text, why):
    path = tmp_path / "desk.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"MS-T167 [\s\S]*{why}"):
        load_hardware(path)


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(UsageError, match=r"MS-T167 no hardware is called 'gpu'[\s\S]*cpu, gpu16, gpu80"):
        load_hardware("gpu")
