"""Checkpoint files: whole or not there, damage found before loading, the one before kept."""

from __future__ import annotations

import random

import pytest
import torch

from medseg.errors import InputError, OutputError
from medseg.training import checkpoint_file
from medseg.training.checkpoint_file import checkpoints, latest_sound, read_checkpoint, write_checkpoint

STATE = {"weights": torch.arange(5000.0), "n": 3, "nested": {"a": (1, 2.5, "x"), "b": [torch.tensor(True)]}}


def test_a_state_comes_back_as_it_was(tmp_path):
    path = write_checkpoint(tmp_path / "models", STATE, 12)
    found = read_checkpoint(path)
    assert torch.equal(found["weights"], STATE["weights"])
    assert found["nested"]["a"] == (1, 2.5, "x")
    assert [p.name for p in (tmp_path / "models").iterdir()] == [path.name]
    assert path.name.startswith("resume_00000012-")


def test_the_last_two_are_kept_and_the_furthest_is_taken(tmp_path):
    paths = [write_checkpoint(tmp_path, STATE | {"n": n}, n) for n in (9, 10, 100)]
    assert checkpoints(tmp_path) == [paths[2], paths[1]]
    path, found = latest_sound(tmp_path)
    assert (path, found["n"]) == (paths[2], 100)


def test_every_flipped_bit_and_every_cut_is_found(tmp_path):
    path = write_checkpoint(tmp_path, STATE, 1)
    content = path.read_bytes()
    rng = random.Random(0)
    unnoticed = 0
    for _ in range(50):
        place = rng.randrange(len(content))
        broken = bytearray(content)
        broken[place] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(InputError, match=rf"MS-T162 .*{path.name}"):
            read_checkpoint(path)
        try:
            torch.load(path, weights_only=True)
        except Exception:  # noqa: BLE001  whatever torch makes of it
            continue
        unnoticed += 1
    assert unnoticed > 25  # torch alone loads most of them
    for n in range(20):
        path.write_bytes(content[: len(content) * n // 20])
        with pytest.raises(InputError, match="MS-T162"):
            read_checkpoint(path)


def test_the_one_before_is_taken_for_a_damaged_one_which_is_named(tmp_path, caplog):
    before, last = (write_checkpoint(tmp_path, STATE | {"n": n}, n) for n in (1, 2))
    last.write_bytes(last.read_bytes()[:-10])
    assert latest_sound(tmp_path)[0] == before
    assert "MS-T162" in caplog.text
    assert last.name in caplog.text
    before.write_bytes(b"")
    with pytest.raises(InputError, match=rf"MS-T162 .*{last.name}"):
        latest_sound(tmp_path)


def test_without_a_checkpoint_it_says_so_and_other_files_are_none(tmp_path):
    (tmp_path / "resume_epoch=5.pt").write_bytes(b"of another program")
    with pytest.raises(InputError, match="MS-T104"):
        latest_sound(tmp_path)
    with pytest.raises(InputError, match="MS-T162"):
        read_checkpoint(tmp_path / "resume_epoch=5.pt")


def test_a_failed_write_leaves_the_one_before(tmp_path, monkeypatch):
    kept = write_checkpoint(tmp_path, STATE, 1)

    def full(path, content):
        path.with_name(".medseg-tmp-0-x").write_bytes(content[:100])
        raise OutputError("MS-O101", "no room", file=path, mend="free space")

    monkeypatch.setattr(checkpoint_file, "write_bytes", full)
    with pytest.raises(OutputError, match="MS-O101"):
        write_checkpoint(tmp_path, STATE, 2)
    assert latest_sound(tmp_path)[0] == kept
    assert list(tmp_path.iterdir()) == [kept]  # what a killed run left is gone
