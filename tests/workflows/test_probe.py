"""Looking at a machine never raises, and finds what is there."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from medseg.workflows import probe
from medseg.workflows.probe import Gpu


def answer(monkeypatch, returncode: int, stdout: str) -> None:
    monkeypatch.setattr(probe.shutil, "which", lambda name: "nvidia-smi")
    monkeypatch.setattr(probe.subprocess, "run", lambda *a, **k: SimpleNamespace(returncode=returncode, stdout=stdout))


def test_nvidia_smi_lists_gpus_and_driver(monkeypatch):
    answer(monkeypatch, 0, "NVIDIA A100-SXM4-40GB, 550.54.15\nTesla T4, rev 2, 550.54.15\n")
    assert probe.probe_gpus() == (Gpu("NVIDIA A100-SXM4-40GB", "550.54.15"), Gpu("Tesla T4, rev 2", "550.54.15"))


@pytest.mark.parametrize("stdout", ["NVIDIA-SMI has failed", ""])
def test_a_driver_that_does_not_answer_is_no_driver(monkeypatch, stdout):
    answer(monkeypatch, 9, stdout)
    assert all(gpu.driver is None for gpu in probe.probe_gpus())


def test_a_hanging_nvidia_smi_does_not_hang_the_doctor(monkeypatch):
    def hang(*args, **options):
        assert options["timeout"] <= 60
        raise subprocess.TimeoutExpired(args, options["timeout"])

    monkeypatch.setattr(probe.shutil, "which", lambda name: "nvidia-smi")
    monkeypatch.setattr(probe.subprocess, "run", hang)
    assert all(gpu.driver is None for gpu in probe.probe_gpus())


def test_pci_knows_an_nvidia_display_or_compute_card_from_others(tmp_path):
    cards = {"a": ("0x10de", "0x030200"), "b": ("0x10de", "0x040300"), "c": ("0x1002", "0x030000"), "d": None}
    for name, card in cards.items():
        (tmp_path / name).mkdir()
        for file, text in zip(("vendor", "class"), card or (), strict=False):
            (tmp_path / name / file).write_text(f"{text}\n", encoding="ascii")
    assert [path.name for path in probe._nvidia_pci(tmp_path)] == ["a"]  # b is the card's sound chip
    assert probe._nvidia_pci(tmp_path / "absent") == []


def test_a_broken_library_is_a_fact(tmp_path, monkeypatch):
    (tmp_path / "medseg_test_broken.py").write_text("raise RuntimeError('operator nms\\nis missing')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert probe.import_error("medseg_test_broken") == "RuntimeError: operator nms"
    assert probe.import_error("medseg_test_absent").startswith("ModuleNotFoundError")
    assert probe.import_error("json") == ""


@pytest.mark.parametrize(("limit", "expected"), [("max", (float("inf"), 0.0)), ("8000", (8000.0, 3000.0))])
def test_a_containers_memory_limit_counts(tmp_path, limit, expected):
    (tmp_path / "memory.max").write_text(f"{limit}\n", encoding="ascii")
    (tmp_path / "memory.current").write_text("3000\n", encoding="ascii")
    assert probe._memory_limit(tmp_path) == expected


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    assert probe._write_error(tmp_path) == ""
    assert probe._write_error(tmp_path / "absent") != ""
