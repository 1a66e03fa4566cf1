"""`medseg doctor`: what the facts of a machine mean for medseg, and what to type where something is amiss.

`examine` judges `probe.Facts` and looks at nothing itself. A check fails only when medseg cannot work; what merely
makes it slower or narrower is a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.workflows.probe import version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.workflows.probe import Facts, Torch

#: CUDA generation -> the oldest driver that runs it, and the pip index of its build of torch. Newest first.
#: Drivers: NVIDIA's CUDA compatibility guide, minor-version compatibility. Builds: torch 2.10 to 2.14 have both.
CUDA_BUILDS = ((13, 580, "cu130"), (12, 525, "cu126"))
WHEELS = "https://download.pytorch.org/whl"

MEMORY_WARN_GB, MEMORY_FAIL_GB = 4.0, 1.5
DISK_WARN_GB, DISK_FAIL_GB = 5.0, 0.2


@dataclass(frozen=True)
class Check:
    """One line of the doctor's table: verdict is 'ok', 'warn' or 'fail'; `mend` is what to do, '' when ok."""

    name: str
    verdict: str
    found: str
    mend: str = ""


def examine(facts: Facts) -> list[Check]:
    """Judge a machine.

    Args:
        facts: what `probe.probe` found, or made-up facts.
    """
    checks: Sequence[Callable[[Facts], Check | None]] = (
        _python,
        _torch,
        _libraries,
        _torchvision,
        _gpu,
        _processor,
        _memory,
        _disk,
        _codecs,
        _bundles,
        _slicer,
    )
    return [check for check in (look(facts) for look in checks) if check is not None]


def _python(facts: Facts) -> Check:
    version = ".".join(str(n) for n in facts.python)
    found = f"medseg {facts.medseg}, Python {version}, {facts.system}"
    if facts.python < (3, 11):
        return Check("medseg", "fail", found, "make an environment with Python 3.11 or newer and install medseg there")
    return Check("medseg", "ok", found)


def _torch(facts: Facts) -> Check:
    if facts.torch is None:
        mend = f"{facts.executable} -m pip install --force-reinstall --no-deps torch"
        return Check("torch", "fail", facts.torch_error or "torch is not installed", mend)
    return Check("torch", "ok", facts.torch.version)


def _libraries(facts: Facts) -> Check:
    broken = {name: error for name, error in facts.libraries.items() if error}
    if broken:
        found = "\n".join(f"{name}: {error}" for name, error in broken.items())
        mend = f"{facts.executable} -m pip install --force-reinstall --no-deps {' '.join(broken)}"
        return Check("libraries", "fail", found, mend)
    return Check("libraries", "ok", f"monai {version_of('monai')} and {len(facts.libraries) - 1} others load")


def _torchvision(facts: Facts) -> Check | None:
    """Medseg never imports torchvision, but one that does not fit torch breaks other programs beside it."""
    if not facts.torchvision:
        return None
    return Check(
        "torchvision",
        "warn",
        f"installed but broken: {facts.torchvision}",
        f"medseg does not need it: {facts.executable} -m pip uninstall torchvision",
    )


def _gpu(facts: Facts) -> Check:
    torch = facts.torch
    if torch is not None and torch.devices and not torch.unsupported:
        return Check("GPU", "ok", ", ".join(torch.devices))
    if not facts.gpus and not (torch and torch.unsupported):
        apple = " (Apple's GPU is not used)" if torch is not None and torch.mps else ""
        return Check("GPU", "ok", f"none: medseg computes on the CPU{apple}")
    names = ", ".join(gpu.name for gpu in facts.gpus) or ", ".join(torch.unsupported if torch else ())
    if torch is None:
        return Check("GPU", "warn", f"{names}; torch does not load", "mend torch first")
    found, mend = _unused_gpu(facts, torch)
    return Check("GPU", "warn", f"{names}: {found}", mend)


def _unused_gpu(facts: Facts, torch: Torch) -> tuple[str, str]:
    """Why torch does not use the GPU that is there, and the mend."""
    driver = next((gpu.driver for gpu in facts.gpus if gpu.driver), None)
    if torch.unsupported:
        return (
            f"torch {torch.version} has no code for {', '.join(torch.unsupported)}",
            _install(facts, torch, "cu126") + " (builds for CUDA 12.6 also run on older GPUs)",
        )
    if driver is None:
        mend = "install NVIDIA's driver and restart (Debian: apt-get install nvidia-driver; Ubuntu: ubuntu-drivers install)"
        return "no NVIDIA driver answers", mend
    number = int(driver.split(".")[0])
    build = next(((oldest, tag) for _, oldest, tag in CUDA_BUILDS if number >= oldest), None)
    if build is None:
        return (
            f"its driver {driver} is too old for any torch that medseg runs on",
            f"update NVIDIA's driver to {CUDA_BUILDS[0][1]} or newer (at least {CUDA_BUILDS[-1][1]}), then restart",
        )
    if torch.cuda is None:
        return f"torch {torch.version} is a CPU-only build", _install(facts, torch, build[1])
    if facts.hidden_gpus:
        return "CUDA_VISIBLE_DEVICES hides it", "unset CUDA_VISIBLE_DEVICES"
    needed = next((oldest for cuda, oldest, _ in CUDA_BUILDS if int(torch.cuda.split(".")[0]) >= cuda), 0)
    if number < needed:
        return (
            f"its driver {driver} is too old for torch {torch.version} (CUDA {torch.cuda})",
            f"update NVIDIA's driver to {needed} or newer and restart, or {_install(facts, torch, build[1])}",
        )
    return (
        f"driver {driver} and torch {torch.version} fit, but torch cannot use it",
        f"restart the machine, then: {facts.executable} -c 'import torch; torch.cuda.init()'",
    )


def _install(facts: Facts, torch: Torch, tag: str) -> str:
    """The command that replaces torch by the build `tag` of the same version and touches nothing else it need not."""
    version = torch.version.split("+")[0]
    return f'{facts.executable} -m pip install "torch=={version}+{tag}" --index-url {WHEELS}/{tag}'


def _processor(facts: Facts) -> Check | None:
    if facts.torch is None:
        return None
    kind = "bfloat16 in hardware" if facts.torch.bf16 else "no bfloat16 in hardware: float32 is used"
    found = f"{_count(facts.cores, 'core')}, torch computes with {_count(facts.torch.threads, 'thread')}, {kind}"
    if facts.omp_threads and facts.torch.threads * 2 <= facts.cores:
        return Check("processor", "warn", f"{found} (OMP_NUM_THREADS={facts.omp_threads})", "unset OMP_NUM_THREADS")
    return Check("processor", "ok", found)


def _memory(facts: Facts) -> Check:
    found = f"{facts.memory_free_gb:.1f} GB free of {facts.memory_total_gb:.1f} GB"
    mend = "close other programs, or use a machine with more memory for large scans"
    return _level("memory", found, mend, facts.memory_free_gb, MEMORY_WARN_GB, MEMORY_FAIL_GB)


def _disk(facts: Facts) -> Check:
    if facts.disk_error:
        mend = "change to a folder that you may write to, or name one with -o"
        return Check("disk", "warn", f"this folder cannot be written: {facts.disk_error}", mend)
    found = f"{facts.disk_free_gb:.1f} GB free in this folder"
    mend = "free some space, or name a folder on another disk with -o"
    return _level("disk", found, mend, facts.disk_free_gb, DISK_WARN_GB, DISK_FAIL_GB)


def _level(name: str, found: str, mend: str, value: float, warn: float, fail: float) -> Check:
    verdict = "fail" if value < fail else "warn" if value < warn else "ok"
    return Check(name, verdict, found, "" if verdict == "ok" else mend)


def _codecs(facts: Facts) -> Check:
    broken = {name: error for name, error in facts.codecs.items() if error}
    if not broken:
        return Check("DICOM codecs", "ok", f"{', '.join(facts.codecs)} decode")
    return Check(
        "DICOM codecs",
        "warn",
        "\n".join(f"{name}: {error}" for name, error in broken.items()),
        f"{facts.executable} -m pip install --force-reinstall --no-deps pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg",
    )


def _bundles(facts: Facts) -> Check:
    if facts.bundles_error:
        mend = f"{facts.executable} -m pip install --force-reinstall --no-deps medseg"
        return Check("bundles", "fail", facts.bundles_error, mend)
    ready = [name for name, weights in facts.bundles.items() if weights]
    empty = [name for name, weights in facts.bundles.items() if not weights]
    found = "; ".join(
        text for text, names in ((", ".join(ready), ready), (f"without weights: {', '.join(empty)}", empty)) if names
    )
    if ready:
        return Check("bundles", "ok", found)
    mend = "train one (medseg train BUNDLE DATA -o RUN), or name a bundle's folder with -b"
    return Check("bundles", "warn", found or "no bundle is shipped with this installation", mend)


def _slicer(facts: Facts) -> Check:
    if facts.slicer is not None:
        return Check("3D Slicer", "ok", str(facts.slicer))
    mend = "to open results in it: install it from slicer.org, or set SLICER_EXECUTABLE to where it is"
    return Check("3D Slicer", "warn", "not found", mend)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
