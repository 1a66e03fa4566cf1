"""Inferers: from a preprocessed image and a network to labels or logits, usable in any MONAI bundle.

windows.py    where the windows lie           batching.py   how many at a time
stream.py     windows in, finished slabs out  precision.py  bf16 or fp32
blend.py      the ring accumulator            memory.py     what happens when memory runs out
sinks.py      what is kept of a slab          body.py       leave out the air
sliding.py    SlidingWindowInferer            plan.py       windows and memory in advance
rewrite.py    bf16 on a CPU: few channels     lone.py       fp32 on a CPU: a window alone
engine.py     an exported network instead locate.py    windows only where the structures are
second_look.py  was the located box right?

Where is the model unsure?
uncertain.py  UncertainInferer                moments.py    mean, entropies, votes, streaming
sampler.py    what all samplers share         replay.py     only what lies behind the first dropout
dropout.py    McDropout                       ensemble.py   Ensemble
mirrored.py   Mirrored: test-time mirroring   joined.py     a convolution's part that stays the same
mirror_mean.py  MirrorMean: logits averaged over mirror images, one answer

instances/    InstanceInferer: objects one by one, with a network that finds them
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.inferers.dropout import McDropout
    from medseg.inferers.ensemble import Ensemble
    from medseg.inferers.instances.inferer import InstanceInferer
    from medseg.inferers.locate import Locate
    from medseg.inferers.memory import Event
    from medseg.inferers.mirrored import Mirror, Mirrored
    from medseg.inferers.moments import Uncertainty
    from medseg.inferers.plan import Plan
    from medseg.inferers.sliding import SlidingWindowInferer
    from medseg.inferers.uncertain import UncertainInferer

__all__ = [
    "Ensemble",
    "Event",
    "InstanceInferer",
    "Locate",
    "McDropout",
    "Mirror",
    "Mirrored",
    "Plan",
    "SlidingWindowInferer",
    "UncertainInferer",
    "Uncertainty",
]

_HOME = {
    "Ensemble": "ensemble",
    "Event": "memory",
    "InstanceInferer": "instances.inferer",
    "Locate": "locate",
    "McDropout": "dropout",
    "Mirror": "mirrored",
    "Mirrored": "mirrored",
    "Plan": "plan",
    "SlidingWindowInferer": "sliding",
    "UncertainInferer": "uncertain",
    "Uncertainty": "moments",
}


def __getattr__(name: str) -> Any:
    """Load torch and MONAI only when something needs them."""
    if name not in _HOME:
        msg = f"module 'medseg.inferers' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"medseg.inferers.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
