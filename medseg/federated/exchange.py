"""What travels between a site and the server, and whether it may be used. Everything else stays where it is.

Down comes the global state, a DXO of kind WEIGHTS; up goes what a site changed, kind WEIGHT_DIFF: its weights after
training minus those that it was sent, so that clipping and compression mean something. Both are `{name: tensor}`,
float32 on the CPU, one entry for every floating-point entry of the state dict that is not personal. Counters (whole
numbers) and personal entries stay at the site. What SCAFFOLD needs beside weights travels in the same table, its names
prefixed by `CONTROL`, so that every privacy filter sees it too.

Meta of an update: `NUM_STEPS_CURRENT_ROUND` (NVFLARE's name) steps of the optimiser, `CASES` training cases, which are
its weight, and `METRICS`, `{name: number}`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nvflare.apis.dxo import DXO
    from torch import Tensor

#: Keys of a DXO's meta.
CASES = "medseg_cases"
METRICS = "medseg_metrics"
ROUND = "medseg_round"
#: Before the names of control variates, in both directions.
CONTROL = "control/"


class UpdateError(InputError):
    """An update that cannot be averaged; it counts as missing."""


@dataclass(frozen=True)
class Update:
    """What one site sends after a round.

    Args:
        diff: name -> what changed, (any shape) float32.
        cases: training cases behind it.
        steps: steps of the optimiser in this round.
        metrics: name -> number.
        key: of an encrypted one, which it was encrypted with (`sealing.key_id`).
    """

    diff: Mapping[str, Tensor]
    cases: int
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    key: str = ""


def is_personal(name: str, personal: Iterable[str]) -> bool:
    """Whether an entry of a state dict stays at its site: one of the patterns is found in its name."""
    return any(re.search(pattern, name) for pattern in personal)


def travelling(state: Mapping[str, Tensor], personal: Sequence[str] = ()) -> dict[str, Tensor]:
    """The entries of a state dict that travel: copies, float32, on the CPU, contiguous.

    Args:
        state: of a network.
        personal: regular expressions of the entries that stay.
    """
    return {
        name: value.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, value in state.items()
        if value.is_floating_point() and not is_personal(name, personal)
    }


def completed(own: Mapping[str, Tensor], received: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole state dict of what was received and, where nothing was, of one's own; in its own dtypes.

    Raises:
        UpdateError: MS-J002, MS-J003 what was received does not belong to this network.
    """
    check_names(received, own, whole=False)
    return {
        name: received[name].to(value.device, value.dtype) if name in received else value for name, value in own.items()
    }


def difference(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What changed, entry by entry, of what was sent."""
    return {name: after[name].detach().to("cpu", torch.float32) - value for name, value in before.items()}


def added(before: Mapping[str, Tensor], diff: Mapping[str, Tensor], factor: float = 1.0) -> dict[str, Tensor]:
    """`before + factor * diff`; entries that did not change are kept."""
    return {name: value + factor * diff[name] if name in diff else value.clone() for name, value in before.items()}


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape."""
    return {name: tuple(value.shape) for name, value in state.items()}


def with_control(state: Mapping[str, Tensor], control: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights and control variates in one table, as they travel."""
    return {**state, **{CONTROL + name: value for name, value in control.items()}}


def without_control(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights, and control variates by the names of the weights that they belong to."""
    weights = {name: value for name, value in state.items() if not name.startswith(CONTROL)}
    control = {name.removeprefix(CONTROL): value for name, value in state.items() if name.startswith(CONTROL)}
    return weights, control


def check_update(diff: Mapping[str, Any], expected: Mapping[str, Sequence[int]]) -> None:
    """Refuse an update that must not be averaged.

    Args:
        diff: as it came, unpacked.
        expected: name -> shape of everything that was sent to the site.

    Raises:
        UpdateError: MS-J001 empty, MS-J002 names, MS-J003 a shape, MS-J004 no float32 tensors, MS-J005 not finite.
    """
    if not diff:
        raise _refused("MS-J001", "the update is empty")
    # float32 alone: a float64 of 1e300 is finite, and infinite in the global state
    strange = [
        name for name, value in diff.items() if not isinstance(value, torch.Tensor) or value.dtype != torch.float32
    ]
    if strange:
        raise _refused("MS-J004", f"not a float32 tensor: {_some(strange)}")
    check_names(diff, expected, whole=True)
    broken = [name for name, value in diff.items() if not torch.isfinite(value).all()]
    if broken:
        raise _refused("MS-J005", f"the update is not finite: {_some(broken)}")


def check_names(state: Mapping[str, Tensor], expected: Mapping[str, Any], *, whole: bool) -> None:
    """Refuse names that are not expected, or, where it is to be whole, missing; and other shapes.

    Args:
        state: name -> tensor.
        expected: name -> shape, or a tensor of that shape.
        whole: every expected name must be there.

    Raises:
        UpdateError: MS-J002 names, MS-J003 a shape.
    """
    extra = [name for name in state if name not in expected]
    missing = [name for name in expected if name not in state] if whole else []
    wrong = [f"{what}: {_some(names)}" for what, names in (("unknown", extra), ("missing", missing)) if names]
    if wrong:
        raise _refused("MS-J002", f"it belongs to another network ({'; '.join(wrong)})")
    unlike = [
        f"{name} {tuple(value.shape)} instead of {_shape(expected[name])}"
        for name, value in state.items()
        if tuple(value.shape) != _shape(expected[name])
    ]
    if unlike:
        raise _refused("MS-J003", f"another shape: {_some(unlike)}")


def scalar_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics that may travel: plain numbers; what is not finite is left out."""
    found = {str(name): float(value) for name, value in metrics.items() if isinstance(value, int | float)}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def update_to_dxo(update: Update) -> DXO:
    """An update as NVFLARE carries it."""
    from nvflare.apis.dxo import DXO, DataKind, MetaKey

    meta = {
        MetaKey.NUM_STEPS_CURRENT_ROUND: int(update.steps),
        CASES: int(update.cases),
        METRICS: scalar_metrics(update.metrics),
    }
    return DXO(DataKind.WEIGHT_DIFF, data=dict(update.diff), meta=meta)


def dxo_to_update(dxo: DXO) -> Update:
    """Of a DXO, unchecked but for its meta.

    Raises:
        UpdateError: MS-J001 it is no difference of weights, MS-J006 the cases behind it are no positive whole number.
    """
    from nvflare.apis.dxo import DataKind, MetaKey

    if dxo.data_kind != DataKind.WEIGHT_DIFF or not isinstance(dxo.data, dict):
        raise _refused("MS-J001", f"the update is of kind {dxo.data_kind}, not {DataKind.WEIGHT_DIFF}")
    cases, steps = dxo.get_meta_prop(CASES), dxo.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND)
    if not isinstance(cases, int) or isinstance(cases, bool) or cases < 1:
        raise _refused("MS-J006", f"it says that it was made of {cases!r} cases")
    metrics = dxo.get_meta_prop(METRICS)
    return Update(dxo.data, cases, steps if isinstance(steps, int) else 0, scalar_metrics(metrics or {}))


def state_to_dxo(state: Mapping[str, Tensor], **meta: Any) -> DXO:
    """The global state as NVFLARE carries it."""
    from nvflare.apis.dxo import DXO, DataKind

    return DXO(DataKind.WEIGHTS, data=dict(state), meta=meta)


def _shape(expected: Any) -> tuple[int, ...]:
    return tuple(expected.shape if isinstance(expected, torch.Tensor) else expected)


def _refused(code: str, what: str) -> UpdateError:
    return UpdateError(code, what, mend="look at the log of this site; until it is mended its updates count as missing")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
