"""How kernels are compiled and shared out over threads."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import numba

if TYPE_CHECKING:
    from collections.abc import Callable


def kernel(function: Callable) -> Callable:
    """Compile on first call, without the GIL, kept on disk where a folder can be written (else in memory)."""
    try:
        return numba.njit(nogil=True, cache=True, fastmath={"contract"})(function)
    except RuntimeError:  # neither the package nor the user's cache folder can be written
        return numba.njit(nogil=True, fastmath={"contract"})(function)


def in_slabs(work: Callable[[int, int], None], n: int, threads: int | None) -> None:
    """Call `work(begin, end)` over [0, n) in slabs shared among threads.

    numba's own `parallel=True` is not used: its OpenMP layer kills forked workers (PyTorch's DataLoader) and its
    work queue aborts when two Python threads call it.

    Args:
        work: writes its own slab of the output and nothing else.
        n: slices along the slowest axis.
        threads: at most this many; None: one for each processor this process may use.
    """
    workers = min(n, threads or _processors())
    if workers <= 1:
        work(0, n)
        return
    parts = min(n, 4 * workers)
    bounds = [n * p // parts for p in range(parts + 1)]
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work, a, b) for a, b in pairwise(bounds)]:
            done.result()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
