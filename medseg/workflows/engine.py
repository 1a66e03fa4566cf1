"""`--engine NAME`: what computes the network in a run, where, and what it cannot do.

Torch loads only where it is needed, so that a wrong word is told at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.errors import UsageError
from medseg.inferers.engine_names import ENGINES, unknown_engine

if TYPE_CHECKING:
    from medseg.workflows.method import Method


def check_engine(engine: str, device: str, method: Method | None = None) -> None:
    """Refuse what an engine cannot do on any machine and with any bundle.

    Raises:
        UsageError: MS-U311 there is no such engine; MS-U312 Monte Carlo dropout with another engine than torch; MS-U313 a
            GPU for another engine.
    """
    if engine not in ENGINES:
        raise unknown_engine(engine)
    if engine == "torch":
        return
    if device not in ("auto", "cpu"):
        raise UsageError(
            "MS-U313",
            f"--engine {engine} computes on the CPU, and --device {device} was asked for",
            mend="leave --device out, or use --engine torch, which computes on a GPU",
        )
    if method is not None and method.name == "mc":
        raise UsageError(
            "MS-U312",
            f"--uncertainty {method.words} drops channels inside the network, and in an exported one nothing can be dropped",
            mend=f"use --engine torch, or --uncertainty tta or ensemble with --engine {engine}",
        )


def engine_device(engine: str, device: str) -> str:
    """Where an engine runs: torch where it is told to, each of torchrun's processes on a GPU of its own; others on the CPU.

    Raises:
        UsageError: MS-U301 torch knows no such device; MS-U311, MS-U313 as for `check_engine`.
    """
    from medseg.workflows.compute import resolve_device
    from medseg.workflows.shares import own_device

    check_engine(engine, device)
    return resolve_device(own_device(device)) if engine == "torch" else "cpu"


def describe_engine(network: Any) -> dict[str, Any]:
    """Which engine computes a network, for record.json."""
    from medseg.inferers.engine import engine_of

    engine = engine_of(network)
    if engine is None:
        return {"engine": "torch"}
    return {"engine": engine.engine, "engine_version": engine.version, "engine_file": engine.path.name}
