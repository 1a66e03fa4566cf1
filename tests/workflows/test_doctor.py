"""Made-up machines and the verdict each deserves; then this one, for real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from medseg.workflows.doctor import examine
from medseg.workflows.probe import Facts, Gpu, Torch, probe

GOOD = Facts(
    python=(3, 11, 7),
    executable="python",
    torch=Torch("2.13.0+cpu", bf16=True, threads=8),
    libraries={"monai": "", "itk": ""},
    memory_free_gb=16,
    memory_total_gb=32,
    disk_free_gb=100,
    cores=8,
    codecs={"RLE": "", "JPEG-LS": ""},
    slicer=Path("Slicer"),
    bundles={"hippocampus": True},
)
A100 = (Gpu("NVIDIA A100", "550.54.15"),)


def check(name: str, **changes):
    checks = {c.name: c for c in examine(replace(GOOD, **changes))}
    return checks[name]


def test_a_good_machine_is_ok_everywhere():
    assert {c.verdict for c in examine(GOOD)} == {"ok"}
    assert all(c.mend == "" for c in examine(GOOD))


@pytest.mark.parametrize(
    ("name", "changes", "verdict", "found", "mend"),
    [
        ("medseg", {"python": (3, 10, 1)}, "fail", "3.10.1", "3.11"),
        ("torch", {"torch": None, "torch_error": "ImportError: x"}, "fail", "ImportError: x", "pip install"),
        ("libraries", {"libraries": {"monai": "", "itk": "OSError: y"}}, "fail", "itk: OSError: y", "itk"),
        ("memory", {"memory_free_gb": 1.0}, "fail", "1.0 GB free", "memory"),
        ("memory", {"memory_free_gb": 3.0}, "warn", "3.0 GB free", "memory"),
        ("disk", {"disk_free_gb": 0.1}, "fail", "0.1 GB free", "-o"),
        ("disk", {"disk_error": "Permission denied"}, "warn", "Permission denied", "-o"),
        ("processor", {"torch": Torch("2.13.0", threads=1), "omp_threads": "1"}, "warn", "1 thread,", "unset OMP"),
        ("DICOM codecs", {"codecs": {"RLE": "", "JPEG-LS": "no plug-in"}}, "warn", "JPEG-LS: no plug-in", "pylibjpeg"),
        ("bundles", {"bundles": {}}, "warn", "no bundle", "-b"),
        ("bundles", {"bundles": {"a": False}}, "warn", "without weights: a", "medseg train"),
        ("bundles", {"bundles_error": "ValueError"}, "fail", "ValueError", "medseg"),
        ("3D Slicer", {"slicer": None}, "warn", "not found", "SLICER_EXECUTABLE"),
        ("torchvision", {"torchvision": "RuntimeError: nms"}, "warn", "nms", "pip uninstall torchvision"),
    ],
)
def test_what_is_amiss_is_named_with_its_mend(name, changes, verdict, found, mend):
    got = check(name, **changes)
    assert got.verdict == verdict
    assert found in got.found
    assert mend in got.mend


def test_a_sound_torchvision_is_nobodys_business():
    assert "torchvision" not in {c.name for c in examine(replace(GOOD, torchvision=""))}


@pytest.mark.parametrize(
    ("driver", "cuda", "found", "mend"),
    [
        # A CPU-only torch: the newest build that the driver runs.
        ("580.65.06", None, "CPU-only", 'pip install "torch==2.13.0+cu130" --index-url {}/cu130'),
        ("550.54.15", None, "CPU-only", 'pip install "torch==2.13.0+cu126" --index-url {}/cu126'),
        ("470.82.01", None, "too old for any torch", "update NVIDIA's driver to 580"),
        # A torch built for a CUDA that the driver is too old for.
        (
            "550.54.15",
            "13.0",
            "too old for torch",
            "update NVIDIA's driver to 580 or newer and restart, or python -m pip",
        ),
        ("470.82.01", "12.6", "too old for any torch", "(at least 525)"),
        # They fit, and still nothing.
        ("580.65.06", "13.0", "fit, but torch cannot use it", "restart"),
        (None, "13.0", "no NVIDIA driver answers", "install NVIDIA's driver"),
        (None, None, "no NVIDIA driver answers", "install NVIDIA's driver"),
    ],
)
def test_a_gpu_that_torch_does_not_use(driver, cuda, found, mend):
    version = "2.13.0+cpu" if cuda is None else f"2.13.0+cu{cuda.replace('.', '')}"
    got = check("GPU", gpus=(Gpu("NVIDIA A100", driver),), torch=Torch(version, cuda=cuda))
    assert got.verdict == "warn"
    assert found in got.found
    assert mend.format("https://download.pytorch.org/whl") in got.mend


def test_a_gpu_in_use_is_ok():
    got = check("GPU", gpus=A100, torch=Torch("2.13.0+cu126", cuda="12.6", devices=("NVIDIA A100",)))
    assert (got.verdict, got.found) == ("ok", "NVIDIA A100")


def test_a_gpu_too_old_for_this_build_of_torch():
    torch = Torch("2.13.0+cu130", cuda="13.0", unsupported=("NVIDIA TITAN X",))
    got = check("GPU", gpus=(Gpu("NVIDIA TITAN X", "580.65.06"),), torch=torch)
    assert got.verdict == "warn"
    assert "no code for NVIDIA TITAN X" in got.found
    assert "torch==2.13.0+cu126" in got.mend


def test_a_hidden_gpu_is_said_to_be_hidden():
    torch = Torch("2.13.0+cu126", cuda="12.6")
    assert "CUDA_VISIBLE_DEVICES hides it" in check("GPU", gpus=A100, torch=torch, hidden_gpus=True).found


def test_without_a_gpu_the_cpu_is_fine():
    assert check("GPU").verdict == "ok"
    assert "Apple" in check("GPU", torch=Torch("2.13.0", mps=True)).found


def test_every_verdict_but_ok_has_a_mend():
    broken = Facts(python=(3, 9, 0), torchvision="x", codecs={"RLE": "x"}, libraries={"itk": "x"}, gpus=A100)
    assert [c.name for c in examine(broken) if c.verdict != "ok" and not c.mend] == []
    assert [c.name for c in examine(broken) if c.verdict == "ok" and c.mend] == []


def test_this_machine_can_run_medseg(tmp_path):
    facts = probe(tmp_path)
    assert facts.torch is not None
    assert facts.cores >= 1
    assert 0 < facts.memory_free_gb <= facts.memory_total_gb
    assert set(facts.codecs.values()) == {""}
    assert set(facts.libraries.values()) == {""}
    broken = {c.name for c in examine(facts) if c.verdict == "fail"}
    assert broken <= {"memory", "disk"}  # those depend on what else runs here
