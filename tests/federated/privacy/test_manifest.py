"""The manifest: whole lines, on the disk before anything leaves."""

from __future__ import annotations

import os
import threading

import pytest

from medseg.federated.privacy import manifest
from medseg.federated.privacy.allow_list import OutgoingError


def test_rows_are_added_in_order_and_read_back(tmp_path):
    path = tmp_path / "deep" / manifest.FILE
    for n in range(3):
        manifest.append_row(path, {"n": n, "what": "Länge\n"})
    rows, broken = manifest.read_rows(path)
    assert [(row["n"], row["what"]) for row in rows] == [(n, "Länge\n") for n in range(3)]
    assert broken == 0
    assert path.stat().st_mode & 0o077 == 0  # nobody else's


def test_two_jobs_at_once_do_not_tear_each_others_lines(tmp_path):
    path = tmp_path / manifest.FILE
    writers = [
        threading.Thread(target=lambda n=n: [manifest.append_row(path, {"n": n, "pad": "x" * 5000}) for _ in range(20)])
        for n in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    rows, broken = manifest.read_rows(path)
    assert (len(rows), broken) == (80, 0)


def test_the_line_is_synced_before_the_call_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    manifest.append_row(tmp_path / manifest.FILE, {"n": 1})
    assert synced == [(tmp_path / manifest.FILE).stat().st_size]


def test_a_full_disk_is_told_and_what_was_half_written_is_counted(tmp_path, monkeypatch):
    path = tmp_path / manifest.FILE
    manifest.append_row(path, {"n": 1})
    whole = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: whole(handle, data[:7]))
    with pytest.raises(OutgoingError, match=r"MS-J119 [\s\S]*disk full"):
        manifest.append_row(path, {"n": 2})
    rows, broken = manifest.read_rows(path)
    assert ([row["n"] for row in rows], broken) == ([1], 1)


def test_not_a_number_is_no_row(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        manifest.append_row(tmp_path / manifest.FILE, {"n": float("nan")})
