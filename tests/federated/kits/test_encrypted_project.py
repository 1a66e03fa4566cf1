"""The commands of a project whose updates leave encrypted: a key that one site makes, and no model to fetch."""

from __future__ import annotations

import shutil
import stat
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest

from medseg.cli.app import run as run_medseg
from medseg.federated.kits.kit import read_kit, write_kit
from medseg.federated.privacy.encryption import require_key


@pytest.mark.skipif(find_spec("tenseal") is None, reason='no tenseal (pip install "medseg[encrypted]")')
def test_a_site_makes_the_key_and_a_file_is_never_replaced(tmp_path, capsys):
    file = tmp_path / "medseg_sites.key"
    assert run_medseg(["federate", "key", str(file)]) == 0
    require_key(file.read_bytes())
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    assert run_medseg(["federate", "key", str(file)]) == 7
    assert "MS-J148" in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.parametrize("words", [("submit", "hippocampus_mri_segmentation", "-n", "run"), ("status", "some-job")])
def test_there_is_no_model_to_fetch_from_a_server_that_cannot_read_it(kits, tmp_path, capsys, words):
    shutil.copytree(kits / "admins" / "lead@example.org", tmp_path / "lead")
    write_kit(replace(read_kit(tmp_path / "lead"), encrypted=True))
    command = ["federate", words[0], str(tmp_path / "lead"), *words[1:], "-o", str(tmp_path / "out")]
    assert run_medseg(command) == 2
    assert "MS-J147" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
