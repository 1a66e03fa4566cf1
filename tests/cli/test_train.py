"""`medseg train` refuses what contradicts itself before it loads anything."""

from __future__ import annotations

from medseg.cli.app import run


def test_minutes_and_epochs_exclude_each_other(tmp_path, capsys):
    words = ["train", str(tmp_path), str(tmp_path), "-o", str(tmp_path / "run")]
    assert run([*words, "--minutes", "1", "--epochs", "2"]) == 2
    assert "MS-U102" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
