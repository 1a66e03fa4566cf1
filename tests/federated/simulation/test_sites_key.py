"""The key of a simulation: one for all its sites, private, and kept over a stop."""

from __future__ import annotations

import importlib.util
import stat
import sys

import pytest

from medseg.federated.privacy.encryption import require_key
from medseg.federated.privacy.sealing import KEY_FILE
from medseg.federated.simulation.sites_key import give_key


@pytest.mark.skipif(importlib.util.find_spec("tenseal") is None, reason='no tenseal (pip install "medseg[encrypted]")')
def test_one_key_for_all_and_the_same_after_a_stop(tmp_path):
    folders = [tmp_path / "work" / name for name in ("a", "b")]
    give_key(folders)
    first = [(folder / KEY_FILE).read_bytes() for folder in folders]
    assert first[0] == first[1]
    require_key(first[0])
    if sys.platform != "win32":
        assert {stat.S_IMODE((folder / KEY_FILE).stat().st_mode) for folder in folders} == {0o600}
    give_key([*folders, tmp_path / "work" / "c"])
    assert (tmp_path / "work" / "c" / KEY_FILE).read_bytes() == first[0]
