"""What this machine has, as plain facts: `probe()` looks, and judges nothing (that is doctor.py).

Every look is guarded: a broken library is a fact to report, not a reason to stop.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import medseg
from medseg.workflows.catalogue import list_bundles
from medseg.workflows.codecs import probe_codecs
from medseg.workflows.slicer import find_slicer

if TYPE_CHECKING:
    from collections.abc import Mapping

GB = 1e9
#: Import name -> distribution name of what medseg cannot work without, torch apart.
LIBRARIES = {
    "monai": "monai",
    "ignite": "pytorch-ignite",
    "nibabel": "nibabel",
    "pydicom": "pydicom",
    "highdicom": "highdicom",
    "itk": "itk",
    "SimpleITK": "SimpleITK",
    "skimage": "scikit-image",
    "numba": "numba",
    "edt": "edt",
    "cc3d": "connected-components-3d",
    "safetensors": "safetensors",
}


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU in this machine; `driver` is None when no driver answers for it."""

    name: str
    driver: str | None = None


@dataclass(frozen=True)
class Torch:
    """The installed torch.

    Args:
        version: as it calls itself, e.g. '2.13.0+cpu'.
        cuda: CUDA version it was built for, None for a CPU-only build.
        devices: names of the GPUs it can compute on.
        unsupported: names of the GPUs that it sees but was not built for.
        mps: whether Apple's GPU is usable.
        bf16: whether the CPU multiplies bfloat16 in hardware.
        threads: threads it computes with.
    """

    version: str
    cuda: str | None = None
    devices: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()
    mps: bool = False
    bf16: bool = False
    threads: int = 1


@dataclass(frozen=True)
class Facts:
    """Everything that `medseg doctor` judges. Errors stand as text; '' means it works."""

    python: tuple[int, int, int]
    executable: str = "python"
    system: str = "Linux"
    medseg: str = medseg.__version__
    torch: Torch | None = None
    torch_error: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)  # distribution -> error
    torchvision: str | None = None  # None: not installed
    gpus: tuple[Gpu, ...] = ()
    hidden_gpus: bool = False  # CUDA_VISIBLE_DEVICES is empty or -1
    memory_free_gb: float = 0.0
    memory_total_gb: float = 0.0
    disk_free_gb: float = 0.0
    disk_error: str = ""
    cores: int = 1
    omp_threads: str | None = None  # OMP_NUM_THREADS
    codecs: Mapping[str, str] = field(default_factory=dict)  # compressed DICOM syntax -> error
    slicer: Path | None = None
    bundles: Mapping[str, bool] = field(default_factory=dict)  # name -> weights present
    bundles_error: str = ""


def probe(folder: Path | None = None) -> Facts:
    """Look at this machine; `folder` (default: the current one) is where results would be written."""
    import psutil

    folder = folder or Path.cwd()
    torch, torch_error = _probe_torch()
    bundles, bundles_error = _probe_bundles()
    memory = psutil.virtual_memory()
    total, used = _memory_limit(Path("/sys/fs/cgroup"))
    return Facts(
        python=sys.version_info[:3],
        executable=f'"{sys.executable}"' if " " in sys.executable else sys.executable,
        system=platform.platform(terse=True),
        torch=torch,
        torch_error=torch_error,
        libraries={name: import_error(module) for module, name in LIBRARIES.items()},
        torchvision=import_error("torchvision") if importlib.util.find_spec("torchvision") else None,
        gpus=probe_gpus(),
        hidden_gpus=os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"),
        memory_free_gb=min(memory.available, total - used) / GB,
        memory_total_gb=min(memory.total, total) / GB,
        disk_free_gb=shutil.disk_usage(folder).free / GB,
        disk_error=_write_error(folder),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        omp_threads=os.environ.get("OMP_NUM_THREADS"),
        codecs=probe_codecs(),
        slicer=find_slicer(),
        bundles=bundles,
        bundles_error=bundles_error,
    )


def import_error(module: str) -> str:
    """'' if the module can be imported, else why not, in one line."""
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001  a broken wheel raises whatever it likes
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return ""


def version_of(distribution: str) -> str:
    """The installed version, 'not installed' without one."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _probe_torch() -> tuple[Torch | None, str]:
    error = import_error("torch")
    if error:
        return None, error
    import torch

    devices, unsupported = [], []
    if torch.cuda.is_available():
        built_for = {int("".join(filter(str.isdigit, arch))) for arch in torch.cuda.get_arch_list()}
        for index in range(torch.cuda.device_count()):
            major, minor = torch.cuda.get_device_capability(index)
            # A kernel of one major generation runs on every later minor of it.
            fits = any(arch // 10 == major and arch % 10 <= minor for arch in built_for)
            (devices if fits else unsupported).append(torch.cuda.get_device_name(index))
    found = Torch(
        version=torch.__version__,
        cuda=torch.version.cuda,
        devices=tuple(devices),
        unsupported=tuple(unsupported),
        mps=torch.backends.mps.is_available(),
        bf16=cpu_has_bf16(),
        threads=torch.get_num_threads(),
    )
    return found, ""


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512-BF16, AMX, or Arm's BF16)."""
    import torch

    able = getattr(torch.cpu, "get_capabilities", dict)()  # torch < 2.11 cannot tell
    return any(on for name, on in able.items() if "bf16" in name)


def probe_gpus() -> tuple[Gpu, ...]:
    """NVIDIA GPUs by nvidia-smi, else by what the Linux kernel lists."""
    found = _nvidia_smi()
    if found:
        return found
    proc = Path("/proc/driver/nvidia/gpus")
    models = [_model(path) for path in proc.glob("*/information")] if proc.is_dir() else []
    if models:
        return tuple(Gpu(name) for name in models)
    return tuple(Gpu(f"NVIDIA GPU at PCI {path.name}") for path in _nvidia_pci(Path("/sys/bus/pci/devices")))


def _nvidia_smi() -> tuple[Gpu, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    if answer.returncode != 0:  # also when the driver does not answer
        return ()
    rows = (line.rsplit(",", 1) for line in answer.stdout.splitlines() if "," in line)
    return tuple(Gpu(name.strip(), driver.strip()) for name, driver in rows)


def _model(information: Path) -> str:
    for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("Model:"):
            return line.partition(":")[2].strip()
    return "NVIDIA GPU"


def _nvidia_pci(devices: Path) -> list[Path]:
    def says(path: Path, name: str, start: str) -> bool:
        try:
            return (path / name).read_text(encoding="ascii").startswith(start)
        except (OSError, UnicodeDecodeError):
            return False

    if not devices.is_dir():
        return []
    return [p for p in sorted(devices.iterdir()) if says(p, "vendor", "0x10de") and says(p, "class", "0x03")]


def _memory_limit(cgroup: Path) -> tuple[float, float]:
    """What a container or batch job may use and uses, bytes; (inf, 0) where nothing limits it."""
    try:
        total, used = ((cgroup / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        return float(total), float(used)
    except (OSError, ValueError):  # no Linux, no control group, or its limit is the word "max"
        return float("inf"), 0.0


def _write_error(folder: Path) -> str:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"medseg")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _probe_bundles() -> tuple[dict[str, bool], str]:
    try:
        return {entry.name: entry.weights for entry in list_bundles()}, ""
    except (OSError, ValueError) as error:
        return {}, f"a shipped bundle cannot be read: {error}"
