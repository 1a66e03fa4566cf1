"""`--dry-run`: what would be done, how much memory it would take and how long, with nothing written.

The network's grid comes from running the bundle's preprocessing on each scan; memory from the inferer's own
estimate; time from a few real windows through the network, times their number.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.utils import fall_back_tuple

from medseg.inferers.instances.inferer import InstanceInferer
from medseg.inferers.plan import VALUES_PER_VOXEL
from medseg.inferers.sliding import SlidingWindowInferer
from medseg.inferers.windows import window_grid
from medseg.readers.cases import load_case
from medseg.workflows.case_run import guard
from medseg.workflows.layout import RECORD, CaseFiles, expected
from medseg.workflows.outcome import Failure
from medseg.workflows.segment import prepare

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from medseg.bundle.load import Bundle
    from medseg.readers.cases import Case
    from medseg.workflows.identity.cases import Identity
    from medseg.workflows.settings import Settings

TIMED_WINDOWS = 3


@dataclass(frozen=True)
class CasePlan:
    """What a run would do with one case.

    Args:
        name: the case.
        shape: of the image, (I, J, K).
        spacing_mm: of the image.
        network_shape: spatial shape that the network would see.
        windows: how many windows.
        memory_mb: estimated peak beyond what the program and the weights take.
        seconds: estimated time of inference.
        writes: files that would be written.
        stays: why a resumed run would leave the case as it is; '' where it would be done.
        failure: why it would be refused.
    """

    name: str
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    network_shape: tuple[int, ...] = ()
    windows: int = 0
    memory_mb: float = 0.0
    seconds: float = 0.0
    writes: tuple[str, ...] = ()
    stays: str = ""
    failure: Failure | None = None

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data."""
        if self.failure:
            row = self.failure
            return {"name": self.name, "code": row.code, "file": row.file, "what": row.what, "mend": row.mend}
        if self.stays:
            return {"name": self.name, "stays": self.stays}
        return {
            "name": self.name,
            "shape": list(self.shape),
            "spacing_mm": [round(s, 4) for s in self.spacing_mm],
            "network_shape": list(self.network_shape),
            "windows": self.windows,
            "memory_mb": round(self.memory_mb, 1),
            "seconds": round(self.seconds, 1),
            "writes": list(self.writes),
        }


def plan_cases(
    cases: Iterable[Case],
    bundle: Bundle,
    settings: Settings,
    out: Path,
    finished: Mapping[str, str],
    identity: Identity,
) -> tuple[CasePlan, ...]:
    """Plan every case; one that would be refused says why, and so does one that is in `finished` (case -> why)."""
    timed: dict[tuple[int, ...], tuple[float, int]] = {}
    plans = []
    for case in cases:
        if case.name in finished:
            plans.append(CasePlan(case.name, stays=finished[case.name]))
            continue
        try:
            plans.append(_plan_case(case, bundle, settings, out, timed))
        except Exception as error:  # noqa: BLE001  as in a run: whatever one case brings, the others are planned
            failure = Failure.of(case.name, error, case.images[0] if case.images else "", identity.of(case))
            plans.append(CasePlan(case.name, failure=failure))
    return tuple(plans)


def _plan_case(
    case: Case, bundle: Bundle, settings: Settings, out: Path, timed: dict[tuple[int, ...], tuple[float, int]]
) -> CasePlan:
    volume = load_case(case, bundle.channels)
    guard(volume, bundle, file=case.images[0], allowed=settings.outside_domain)
    image = prepare(volume, bundle)["image"]
    shape = tuple(int(n) for n in image.shape[1:])
    roi = window_shape(bundle.inferer, shape)
    if roi not in timed:
        timed[roi] = time_window(bundle, (1, int(image.shape[0]), *roi), settings.device)
    seconds, classes = timed[roi]
    windows, inferer_bytes = _cost(bundle, shape, int(image.shape[0]), classes, settings.device)
    places = CaseFiles(out, case.name, settings.flat)
    return CasePlan(
        name=case.name,
        shape=volume.grid.shape,
        spacing_mm=volume.spacing_mm,
        network_shape=shape,
        windows=windows,
        memory_mb=(volume.array.nbytes + 2 * image.numel() * 4 + inferer_bytes + volume.array.size) / 1e6,
        seconds=seconds * windows,
        writes=tuple(
            places.path(f).relative_to(out).as_posix()
            for f in (*expected(settings, instances=bundle.finds_instances), RECORD)
        ),
    )


def window_shape(inferer: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Spatial shape of one window over an image of `shape`; the image itself for an inferer without windows."""
    roi = getattr(inferer, "roi_size", None)
    return shape if roi is None else tuple(int(n) for n in fall_back_tuple(roi, shape))


def time_window(bundle: Bundle, shape: tuple[int, ...], device: str) -> tuple[float, int]:
    """(seconds, output channels) of one window through the network: the median of a few after one to warm up.

    A network that finds instances has no channels: 1.
    """
    window = torch.zeros(shape, device=device)
    seconds, output = [], window
    with torch.no_grad():
        for _ in range(1 + TIMED_WINDOWS):
            start = time.perf_counter()
            output = bundle.network(window)
            output = output[0] if isinstance(output, list | tuple) else output
            output = output if isinstance(output, torch.Tensor) else output.boxes
            output.sum().item()  # waits for a GPU
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:]), 1 if bundle.finds_instances else int(output.shape[1])


def _cost(bundle: Bundle, shape: tuple[int, ...], channels: int, classes: int, device: str) -> tuple[int, float]:
    """(windows, bytes) of one volume: medseg's inferer says it itself, MONAI's keeps scores of the whole volume."""
    inferer: Any = bundle.inferer
    if isinstance(inferer, InstanceInferer):
        over = inferer.tiles_over(shape, bundle.network)
        tile = math.prod(b - a for a, b in zip(over[0].low, over[0].high, strict=True))
        return len(over), 4.0 * (tile * (channels + VALUES_PER_VOXEL) + math.prod(shape))  # and the map of ids
    if isinstance(inferer, SlidingWindowInferer):
        plan = inferer.plan(shape, channels, classes, device)
        return plan.windows, float(plan.peak_bytes)
    roi = getattr(inferer, "roi_size", None)
    windows = 1 if roi is None else len(window_grid(shape, roi, getattr(inferer, "overlap", 0.25)))
    return windows, 4.0 * float(np.prod(shape)) * (2 * classes + 1)
