from __future__ import annotations

import threading

import numpy as np
import pytest

from medseg.errors import InputError, UsageError
from medseg.readers.cases import find_cases
from medseg.readers.options import ReadOptions
from medseg.workflows import inputs
from medseg.workflows.inputs import Read, cases_of, read_ahead
from tests.workflows.conftest import blocks


def test_the_cases_of_a_folder(scans, toy, tmp_path):
    found = cases_of(scans, tmp_path / "out", toy.channels, ReadOptions())
    assert [case.name for case in found] == ["a", "b", "c"]


@pytest.mark.parametrize("out", ["", "out", "a/b"])
def test_results_do_not_become_input(scans, toy, out):
    with pytest.raises(UsageError, match="MS-O306"):
        cases_of(scans, scans / out, toy.channels, ReadOptions())


def test_nothing_to_read(toy, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="MS-C101"):
        cases_of(tmp_path / "empty", tmp_path / "out", toy.channels, ReadOptions())


def test_volumes_come_in_order_and_errors_wait_for_their_turn(scans, toy):
    (scans / "b.nii.gz").write_bytes(b"")
    a, b, c = read_ahead(find_cases(scans), toy.channels)
    assert np.array_equal(a.volume.array[0], blocks(0))
    assert isinstance(b.volume, InputError)
    assert np.array_equal(c.volume.array[0], blocks(2))
    assert min(a.seconds, b.seconds, c.seconds) >= 0
    assert list(read_ahead([], toy.channels)) == []


def test_one_case_ahead_and_no_more(scans, toy, monkeypatch):
    begun, second = [], threading.Event()

    class Seen(Read):
        def __init__(self, case, channels):
            begun.append(case.name)
            if case.name == "b":
                second.set()
            super().__init__(case, channels)

    monkeypatch.setattr(inputs, "Read", Seen)
    volumes = read_ahead(find_cases(scans), toy.channels)
    next(volumes)
    assert second.wait(timeout=30), "the next one is read while the first is in use"
    assert begun == ["a", "b"]
    volumes.close()
