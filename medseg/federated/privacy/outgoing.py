"""Exactly what may leave a site: a message is taken apart, and made anew of the parts that are known.

Nothing is passed on as it came. A tensor is copied value by value, so that neither the file name that MONAI's MetaTensor
carries nor the memory behind a slice goes with it; numbers are made plain; whatever is not known by name stops the whole
message. What no such check can see: numbers can carry anything, so the promise is about forms and names, and rests on
sites running only the code that they installed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from medseg.errors import InputError
from medseg.federated.exchange import CASES, CONTROL, METRICS, ROUND
from medseg.federated.privacy.allow_list import OutgoingError
from medseg.federated.privacy.packing import LAYOUT, PACKING, POSITIONS, VALUES, PackingError, checked_top_k, layout_of
from medseg.federated.stats.exchange import remade

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.federated.privacy.allow_list import AllowList

#: Kinds of messages (NVFLARE's `DataKind`): an update, scores of a model, and what a site's data are like.
UPDATES, SCORES, STATISTICS = ("WEIGHT_DIFF",), ("METRICS",), ("STATISTICS",)
#: Whole numbers that may stand in the meta of a message.
COUNTS = ("NUM_STEPS_CURRENT_ROUND", CASES, ROUND, "current_round")
#: Numbers that may leave under these names beside the bundle's own metrics; each alone or as NAME/STRUCTURE.
METRIC_NAMES = frozenset({"dice", "loss", "cases", "steps", "seconds", "drift"})
_MEND = "nothing was sent; type medseg federate audit to see what was refused, and tell the authors of the job"


@dataclass(frozen=True)
class Outgoing:
    """A message that may leave, made anew.

    Args:
        kind: NVFLARE's name of it.
        data: of the message.
        meta: of the message.
        row: what the manifest says of it: sums of an update, all of everything else.
    """

    kind: str
    data: dict[str, Any]
    meta: dict[str, Any]
    row: dict[str, Any]


def released(kind: Any, data: Any, meta: Any, allowed: AllowList, *, packing: str = "none") -> Outgoing:
    """What of a message may leave: all of it, made anew, or nothing.

    Args:
        kind: of the message, one of `UPDATES`, `SCORES` and `STATISTICS`.
        data: name -> tensor of an update, name -> number of scores, a fingerprint (`medseg.federated.stats.exchange`).
        meta: counts, metrics, and how the update is packed.
        allowed: by this site.
        packing: the form in which updates leave this site.

    Raises:
        OutgoingError: MS-J111 an unknown kind of message, MS-J112 a name, MS-J113 a shape, MS-J114 a type, MS-J115 not
            finite, MS-J116 a metric, count or other entry beside the update, MS-J117 text where numbers belong,
            MS-J170 statistics that are no fingerprint.
    """
    kind = str(getattr(kind, "value", kind))
    if not isinstance(data, dict) or not isinstance(meta, dict):
        raise _stopped("MS-J111", "it holds no table")
    if kind in UPDATES:
        sent, layout = _update(data, meta, allowed, packing)
        beside = _meta({key: value for key, value in meta.items() if key not in (PACKING, LAYOUT)}, allowed)
        return Outgoing(kind, sent, beside | layout, _row(sent) | {"scalars": _scalars(beside)})
    if kind in SCORES:
        numbers, beside = _metrics(data, allowed), _meta(meta, allowed)
        return Outgoing(kind, numbers, beside, {"scalars": numbers | _scalars(beside)})
    if kind in STATISTICS:
        if not allowed.statistics:
            raise _stopped("MS-J111", "statistics of its cases, which this site does not tell")
        try:
            told = remade(data)
        except InputError as error:
            raise OutgoingError(error.code, f"it would have sent statistics: {error.what}", mend=_MEND) from error
        beside = _meta(meta, allowed)
        # Whole, so that it can be looked up: `remade` has just read every name and number in it, and it is plain data.
        row = {"scalars": _scalars(beside), "fingerprint_cases": told["fingerprint"]["cases"], **told}
        return Outgoing(kind, told, beside, row)
    raise _stopped("MS-J111", f"a message of kind {_shown(kind)}")


def _update(
    data: Mapping[Any, Any], meta: Mapping[Any, Any], allowed: AllowList, packing: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    said = meta.get(PACKING, "none")
    if said != packing or type(said) is not str:
        raise _stopped("MS-J116", f"an update packed as {_shown(said)}, where this site packs as {packing}")
    if not data:
        raise _stopped("MS-J112", "an empty update")
    if packing == "top_k":
        return _top_k(data, meta, allowed)
    if LAYOUT in meta:
        raise _stopped("MS-J116", f"an entry {LAYOUT}, which only packed updates have")
    dtype = torch.float16 if packing == "fp16" else torch.float32
    sent = {}
    for name, value in data.items():
        shape = _shape(name, allowed)
        sent[name] = _tensor(name, value, dtype)
        if tuple(value.shape) != shape:
            raise _stopped("MS-J113", f"{name} has the shape {tuple(value.shape)}, this site's bundle {shape}")
    return sent, {} if packing == "none" else {PACKING: packing}


def _top_k(
    data: Mapping[Any, Any], meta: Mapping[Any, Any], allowed: AllowList
) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        layout = layout_of(meta.get(LAYOUT))
    except PackingError as error:
        raise _stopped("MS-J116", error.what) from error
    for name, shape in layout:
        if shape != _shape(name, allowed):
            raise _stopped("MS-J113", f"{name} is said to have the shape {shape}, not that of this site's bundle")
    if set(data) != {POSITIONS, VALUES}:
        raise _stopped("MS-J112", f"entries {', '.join(_shown(name) for name in list(data)[:3])} in a packed update")
    sent = {POSITIONS: _tensor(POSITIONS, data[POSITIONS], torch.int32)}
    sent[VALUES] = _tensor(VALUES, data[VALUES], torch.float16)
    try:
        checked_top_k(sent[POSITIONS], sent[VALUES], sum(math.prod(shape) for _, shape in layout))
    except PackingError as error:
        raise _stopped("MS-J113", error.what) from error
    return sent, {PACKING: "top_k", LAYOUT: [[name, list(shape)] for name, shape in layout]}


def _shape(name: Any, allowed: AllowList) -> tuple[int, ...]:
    known = allowed.parameters.get(name.removeprefix(CONTROL)) if type(name) is str else None
    if known is None:
        raise _stopped("MS-J112", f"{_shown(name)} is no weight of this site's bundle")
    return known


def _tensor(name: str, value: Any, dtype: torch.dtype) -> torch.Tensor:
    # A subclass may carry more than numbers: MONAI's MetaTensor has the file's name.
    if type(value) is not torch.Tensor:
        raise _stopped("MS-J114", f"{name} is a {type(value).__name__}, not a plain tensor")
    if value.dtype != dtype or value.device.type != "cpu" or value.layout != torch.strided:
        raise _stopped("MS-J114", f"{name} is {value.dtype} on {value.device}, not {dtype} on the CPU")
    if dtype.is_floating_point and not torch.isfinite(value).all():
        raise _stopped("MS-J115", f"{name} is not finite")
    return torch.empty(value.shape, dtype=dtype).copy_(value.detach())


def _meta(meta: Mapping[Any, Any], allowed: AllowList) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in meta.items():
        if key == METRICS:
            if not isinstance(value, dict):
                raise _stopped("MS-J117", f"{METRICS} is a {type(value).__name__}, not a table of numbers")
            found[key] = _metrics(value, allowed)
        elif key in COUNTS:
            if type(value) is not int or not 0 <= value < 2**31:
                raise _stopped("MS-J117", f"{key} is a {type(value).__name__}, not a whole number")
            found[key] = value
        else:
            raise _stopped("MS-J116", f"{_shown(key)} beside the update")
    return found


def _metrics(values: Mapping[Any, Any], allowed: AllowList) -> dict[str, float]:
    found = {}
    for name, value in values.items():
        base, _, structure = name.partition("/") if type(name) is str else ("", "", "")
        if (
            base not in METRIC_NAMES | allowed.metrics
            or (structure and structure not in allowed.structures)
            or str(name).endswith("/")
        ):
            raise _stopped("MS-J116", f"a metric called {_shown(name)}")
        if type(value) not in (int, float):
            raise _stopped("MS-J117", f"the metric {name} is a {type(value).__name__}, not a number")
        if not math.isfinite(value):
            raise _stopped("MS-J115", f"the metric {name} is not finite")
        found[name] = float(value)
    return found


def _row(sent: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    floating = [value.double() for value in sent.values() if value.is_floating_point()]
    return {
        "arrays": len(sent),
        "values": sum(value.numel() for value in sent.values()),
        "bytes": sum(value.numel() * value.element_size() for value in sent.values()),
        "types": sorted({str(value.dtype).removeprefix("torch.") for value in sent.values()}),
        "norm": math.sqrt(sum(float(value.square().sum()) for value in floating)),
    }


def _scalars(meta: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in meta.items() if key != METRICS} | meta.get(METRICS, {})


def _shown(thing: Any) -> str:
    """A name that was refused, for the site's own log: short, and the type alone of what is no text."""
    return repr(thing[:60]) if isinstance(thing, str) else f"a {type(thing).__name__}"


def _stopped(code: str, what: str) -> OutgoingError:
    return OutgoingError(code, f"it would have sent {what}", mend=_MEND)
