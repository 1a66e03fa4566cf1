"""`--engine NAME`: what computes the network in a run, where, and what it cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.bundle.export_engine import on_engine
from medseg.errors import UsageError
from medseg.inferers.engine import ENGINES, engine_of, unknown_engine
from medseg.workflows.compute import resolve_device

if TYPE_CHECKING:
    from medseg.bundle.load import Bundle
    from medseg.workflows.sampling import Method


def engine_device(engine: str, device: str) -> str:
    """Where an engine runs: torch where it is told to, the others on the CPU.

    Raises:
        UsageError: MS-U301 torch knows no such device; MS-U311 there is no such engine; MS-U313 a GPU for another engine.
    """
    if engine not in ENGINES:
        raise unknown_engine(engine)
    if engine == "torch":
        return resolve_device(device)
    if device not in ("auto", "cpu"):
        raise UsageError(
            "MS-U313",
            f"--engine {engine} computes on the CPU, and --device {device} was asked for",
            mend="leave --device out, or use --engine torch, which computes on a GPU",
        )
    return "cpu"


def with_engine(bundle: Bundle, engine: str, method: Method | None, *, threads: int | None = None) -> Bundle:
    """A loaded bundle on the engine of a run.

    Raises:
        UsageError: MS-U312 Monte Carlo dropout with another engine than torch.
        UsageError, MissingExtraError, BundleError: see `medseg.bundle.export_engine.on_engine`.
    """
    if engine != "torch" and method is not None and method.name == "mc":
        raise UsageError(
            "MS-U312",
            f"--uncertainty {method.words} drops channels inside the network, and in an exported one nothing can be dropped",
            mend=f"use --engine torch, or --uncertainty tta or ensemble with --engine {engine}",
        )
    return on_engine(bundle, engine, threads=threads)


def describe_engine(network: Any) -> dict[str, Any]:
    """Which engine computes a network, for record.json."""
    engine = engine_of(network)
    if engine is None:
        return {"engine": "torch"}
    return {"engine": engine.engine, "engine_version": engine.version, "engine_file": engine.path.name}
