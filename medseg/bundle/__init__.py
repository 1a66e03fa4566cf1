"""Bundles: a network with weights, what it labels, and the scans it was trained on, in MONAI's bundle format.

shipped.py      find a bundle by folder or name        load.py     for prediction, through the gate
gate.py         what a config may build                trust.py    what the user lets run all the same
expressions.py  what a `$` expression may compute      weights.py  never a pickle's code
domain.py       what it was trained on, and whether a scan is that
check.py        does a bundle keep its promises
export.py       its network as files that run without torch, checked against torch
nnunet/         a trained nnU-Net v2 folder becomes a bundle
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medseg.bundle.shipped import find_bundle, shipped_bundles

if TYPE_CHECKING:
    from medseg.bundle.check import Problem, check_bundle
    from medseg.bundle.domain import Domain, Violation, check_domain, check_result, measure_domain
    from medseg.bundle.load import Bundle, load_bundle
    from medseg.bundle.trust import trust_bundle

__all__ = [
    "Bundle",
    "Domain",
    "Problem",
    "Violation",
    "check_bundle",
    "check_domain",
    "check_result",
    "find_bundle",
    "load_bundle",
    "measure_domain",
    "shipped_bundles",
    "trust_bundle",
]

_HOME = {
    "Bundle": "load",
    "Domain": "domain",
    "Problem": "check",
    "Violation": "domain",
    "check_bundle": "check",
    "check_domain": "domain",
    "check_result": "domain",
    "load_bundle": "load",
    "measure_domain": "domain",
    "trust_bundle": "trust",
}


def __getattr__(name: str) -> Any:
    """Load torch and MONAI only when something needs them."""
    if name not in _HOME:
        msg = f"module 'medseg.bundle' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"medseg.bundle.{_HOME[name]}"), name)
