"""A loaded bundle whose networks are computed by another engine than torch."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from medseg.bundle.export_record import exported_file
from medseg.bundle.weights import require_weights
from medseg.errors import BundleError
from medseg.inferers.engine import Engine
from medseg.inferers.engine_names import ENGINES, unknown_engine

if TYPE_CHECKING:
    from torch import nn

    from medseg.bundle.load import Bundle


def on_engine(bundle: Bundle, engine: str, *, threads: int | None = None) -> Bundle:
    """The same bundle on another engine, its ensemble too; the bundle itself for "torch".

    Args:
        bundle: loaded.
        engine: one of `ENGINES`.
        threads: of the CPU; None: as many as torch has.

    Raises:
        UsageError: MS-U311 there is no such engine.
        MissingExtraError: MS-U310 its library is not installed.
        BundleError: MS-B122 it was not exported, MS-B123 the export is stale, MS-B126 it cannot be opened; MS-B127 the
            bundle finds instances.
    """
    if engine not in ENGINES:
        raise unknown_engine(engine)
    if engine == "torch":
        return bundle
    refuse_instances(bundle)
    weights = require_weights(bundle.root)
    first = Engine(exported_file(bundle.root, weights, bundle.network, engine), engine, threads=threads)

    def members() -> tuple[nn.Module, ...]:
        others = [bundle.root / name for name in bundle.uncertainty.weights]
        files = [
            exported_file(bundle.root, path, network, engine)
            for path, network in zip(others, bundle.members()[1:], strict=True)
        ]
        return (first, *(Engine(file, engine, threads=threads) for file in files))

    return replace(bundle, network=first, members=cache(members))


def refuse_instances(bundle: Bundle) -> None:
    """Refuse a bundle that finds instances.

    Raises:
        BundleError: MS-B127 saying what cannot be exported, and what can be done.
    """
    if bundle.finds_instances:
        raise BundleError(
            "MS-B127",
            "it finds instances: how many boxes there are, which of them stay and where features are sampled depends on "
            "the image, and part of it is compiled by medseg, so that no graph in a file gives the same instances",
            file=bundle.root,
            mend="predict with --engine torch, which needs no export; a bundle that segments without instances exports",
        )
