"""Files that are nobody else's, and files that are made once."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from medseg.errors import OutputError
from medseg.writers import atomic


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no modes")
@pytest.mark.parametrize(("private", "others"), [(True, 0), (False, stat.S_IRGRP | stat.S_IROTH)])
def test_a_private_file_is_its_users_alone(tmp_path, private, others):
    before = os.umask(0o022)
    try:
        atomic.write_text(tmp_path / "a", "x", private=private)
        atomic.write_new(tmp_path / "b", "x", private=private)
    finally:
        os.umask(before)
    for name in "ab":
        assert (tmp_path / name).stat().st_mode & 0o077 == others


def test_only_the_first_of_many_makes_a_file(tmp_path):
    path = tmp_path / "key"
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: atomic.write_new(path, f"{n}"), range(40)))
    assert sum(won) == 1
    assert path.read_text() == str(won.index(True))
    assert list(tmp_path.iterdir()) == [path]


def test_where_links_are_unknown_a_file_is_made_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(atomic.os, "link", refuse)
    assert atomic.write_new(tmp_path / "key", "a") is True
    assert atomic.write_new(tmp_path / "key", "b") is False
    assert (tmp_path / "key").read_text() == "a"
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_a_folder_that_does_not_take_it_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        atomic.write_new(tmp_path / "file" / "key", "a")
    assert caught.value.code.startswith("MS-O10")
