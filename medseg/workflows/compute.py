"""Where the network runs, with how many threads, and whether it must give the same bits again."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from medseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


def resolve_device(name: str) -> str:
    """'auto' -> a GPU when there is one, else the CPU; anything else must exist on this machine.

    Raises:
        UsageError: MS-U301 torch knows no such device, or it is not here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    why = "torch knows no such device"
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError
        why = "torch cannot use it on this machine"
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            "MS-U301",
            f"there is no device {name!r}: {why}",
            mend="use --device auto or cpu; `medseg doctor` says why a GPU is not found",
        ) from error
    return str(device)


@contextmanager
def computing(*, threads: int | None = None, deterministic: bool = False) -> Iterator[None]:
    """Set torch's and numba's threads and torch's determinism while a run lasts.

    Raises:
        UsageError: MS-U303 `threads` is less than 1.
    """
    if threads is not None and threads < 1:
        raise UsageError("MS-U303", f"{threads} threads", mend="give --threads a number of 1 or more")
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    workers = _numba_threads(threads)
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.backends.cudnn.deterministic = True
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        torch.backends.cudnn.deterministic = before[2]
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
        _numba_threads(workers)


def _numba_threads(threads: int | None) -> int | None:
    """Set numba's threads, as far as it has them; returns how many there were."""
    if threads is None:
        return None
    import numba

    before = numba.get_num_threads()
    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # set when numba starts
    numba.set_num_threads(min(threads, most))
    return before
