"""Smaller updates: half precision, or only the largest entries; what is not sent is kept for the next round.

`packed, residual = pack(update, packing, keep, residual)` and `unpack(packed)` are pure. Their promise, exact to the last
bit: `unpack(packed) + residual_after == update + residual_before`. Without that memory a site whose entries never are the
largest is never heard, and training stops short of the optimum or runs away from it (Seide 2014; Karimireddy 2019,
"Error feedback fixes SignSGD"; Beznosikov 2020, section 5, whose example is our test).

A packed update is a table of plain tensors like an unpacked one, so the audit sees it too:

- 'fp16': the same names and shapes, float16.
- 'top_k': `POSITIONS` (k,) int32, ascending, and `VALUES` (k,) float16, over all entries laid end to end in the order of
  `LAYOUT`, which stands in the meta: `[[name, [shape]], ...]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

#: Keys of a DXO's meta.
PACKING, LAYOUT = "medseg_packing", "medseg_layout"
#: Names of the two tensors of 'top_k'.
POSITIONS, VALUES = "medseg_positions", "medseg_values"
_LARGEST_HALF = 65504.0
_MEND = "train with a smaller learning rate, or without packing (privacy: none)"


class PackingError(InputError):
    """An update that cannot be packed or unpacked."""


@dataclass(frozen=True)
class Packed:
    """An update as it travels.

    Args:
        data: name -> tensor.
        meta: how to read it: `PACKING`, and for 'top_k' `LAYOUT`.
    """

    data: Mapping[str, Tensor]
    meta: Mapping[str, Any] = field(default_factory=dict)


def pack(
    update: Mapping[str, Tensor], packing: str, *, keep: float = 0.1, residual: Mapping[str, Tensor] | None = None
) -> tuple[Packed, dict[str, Tensor]]:
    """Make an update smaller.

    Args:
        update: name -> float32, any shape.
        packing: 'fp16' or 'top_k'.
        keep: the share of entries that 'top_k' sends, in (0, 1]; at least one is sent.
        residual: what was kept before, same names and shapes; None: nothing.

    Returns:
        What travels, and what is kept for the next round (float32).

    Raises:
        PackingError: MS-J130 not finite, or beyond what half precision can hold; MS-J131 an unknown packing, or a
            residual of another update.
    """
    wanted = _with_residual(update, residual)
    for name, value in wanted.items():
        if not torch.isfinite(value).all() or (value.numel() and float(value.abs().max()) > _LARGEST_HALF):
            what = f"{name} holds numbers that half precision cannot hold"
            raise PackingError("MS-J130", what, mend=_MEND)
    if packing == "fp16":
        packed = Packed({name: value.half() for name, value in wanted.items()}, {PACKING: packing})
    elif packing == "top_k":
        packed = _top_k(wanted, keep)
    else:
        raise PackingError("MS-J131", f"no packing is called {packing!r}", mend="choose fp16 or top_k")
    sent = unpack(packed.data, packed.meta)
    return packed, {name: value - sent[name] for name, value in wanted.items()}


def unpack(
    data: Mapping[str, Any], meta: Mapping[str, Any] | None, expected: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Any]:
    """An update as it was before packing: name -> float32; one that was not packed is given back as it is.

    Args:
        data: as it came.
        meta: beside it.
        expected: name -> shape of what was sent to the site; None: any. Only what is expected is made room for.

    Raises:
        PackingError: MS-J132 it says that it is packed, but cannot have been, or not of what is expected.
    """
    packing = (meta or {}).get(PACKING)
    if packing is None:
        return dict(data)
    if packing == "fp16":
        if not all(isinstance(value, torch.Tensor) and value.dtype == torch.float16 for value in data.values()):
            raise _refused("MS-J132", "fp16 with entries that are not half precision")
        return {name: value.float() for name, value in data.items()}
    if packing != "top_k":
        raise _refused("MS-J132", f"packing {packing!r}")
    layout = layout_of((meta or {}).get(LAYOUT))
    if expected is not None and dict(layout) != {name: tuple(shape) for name, shape in expected.items()}:
        raise _refused("MS-J132", "top_k of another network")  # before its size decides how much memory is taken
    total = sum(math.prod(shape) for _, shape in layout)
    if set(data) != {POSITIONS, VALUES}:
        raise _refused("MS-J132", f"top_k with the entries {', '.join(sorted(map(str, data))[:3])}")
    positions, values = checked_top_k(data[POSITIONS], data[VALUES], total)
    flat = torch.zeros(total, dtype=torch.float32)
    flat[positions.long()] = values.float()
    return split(flat, layout)


def layout_of(said: Any) -> list[tuple[str, tuple[int, ...]]]:
    """A layout from plain data; MS-J132 where it is none."""
    try:
        found = [(name, tuple(shape)) for name, shape in said]
    except (TypeError, ValueError) as error:
        raise _refused("MS-J132", "no layout") from error
    plain = all(type(name) is str and all(type(n) is int and n >= 0 for n in shape) for name, shape in found)
    if not plain or len({name for name, _ in found}) != len(found):
        raise _refused("MS-J132", "a layout of other things than names and shapes")
    return found


def checked_top_k(positions: Any, values: Any, total: int) -> tuple[Tensor, Tensor]:
    """The two tensors of 'top_k'; MS-J132 where they are not (k,) int32 ascending below `total` and (k,) float16."""
    tensors = isinstance(positions, torch.Tensor) and isinstance(values, torch.Tensor)
    if not tensors or positions.dtype != torch.int32 or values.dtype != torch.float16:
        raise _refused("MS-J132", "top_k that is not int32 positions and float16 values")
    if positions.ndim != 1 or positions.shape != values.shape or not 1 <= len(positions) <= total:
        raise _refused("MS-J132", f"top_k of shapes {tuple(positions.shape)} and {tuple(values.shape)}")
    if int(positions[0]) < 0 or int(positions[-1]) >= total or bool((positions.diff() <= 0).any()):
        raise _refused("MS-J132", "positions that do not ascend within the update")
    return positions, values


def flatten(update: Mapping[str, Tensor]) -> tuple[Tensor, list[tuple[str, tuple[int, ...]]]]:
    """All entries end to end, in the order of their names, and the layout: (n,) float32."""
    names = sorted(update)
    layout = [(name, tuple(update[name].shape)) for name in names]
    return torch.cat([update[name].detach().reshape(-1).float() for name in names]), layout


def split(flat: Tensor, layout: Sequence[tuple[str, tuple[int, ...]]]) -> dict[str, Tensor]:
    """The inverse of `flatten`."""
    parts = flat.split([math.prod(shape) for _, shape in layout])
    return {name: part.reshape(shape) for part, (name, shape) in zip(parts, layout, strict=True)}


def _top_k(update: Mapping[str, Tensor], keep: float) -> Packed:
    flat, layout = flatten(update)
    count = min(len(flat), max(1, round(keep * len(flat))))
    positions = flat.abs().topk(count, sorted=False).indices.sort().values
    data = {POSITIONS: positions.int(), VALUES: flat[positions].half()}
    return Packed(data, {PACKING: "top_k", LAYOUT: [[name, list(shape)] for name, shape in layout]})


def _with_residual(update: Mapping[str, Tensor], residual: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    if residual is None:
        return {name: value.detach().float() for name, value in update.items()}
    if {n: v.shape for n, v in residual.items()} != {n: v.shape for n, v in update.items()}:
        raise PackingError("MS-J131", "what was kept belongs to an update of other names or shapes", mend=_MEND)
    return {name: value.detach().float() + residual[name] for name, value in update.items()}


def _refused(code: str, what: str) -> PackingError:
    mend = "use the same medseg at all sites and at the server"
    return PackingError(code, f"a packed update cannot be read: {what}", mend=mend)
