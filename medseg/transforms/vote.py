"""Labels at places between voxels: the label with the greatest trilinear weight.

A place between eight voxels gives each of them a weight; the weights of equal labels add up, and the greatest sum
wins. That equals linear interpolation of every label's own mask and taking the greatest, but looks at eight voxels a
place however many labels there are. Worked example along one axis: labels 5, 7 at voxels 0, 1; the place 0.3 has
weights 0.7 and 0.3, and is 5.

`vote_labels` works on any device: it votes only at places whose eight voxels differ. `vote` is the same for one
place, compiled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.jit import kernel

_CORNERS = tuple((a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1))


def vote_labels(labels: Tensor, coordinates: Tensor) -> Tensor:
    """The label of greatest trilinear weight at every place; what lies outside counts as background.

    Args:
        labels: (I, J, K) whole numbers from 0 that fit 32 bits, any dtype.
        coordinates: (D, H, W, 3) continuous voxel indices, on the same device.

    Returns:
        (D, H, W), of the labels' dtype. Of labels with equal weights the smaller wins.
    """
    whole = labels if labels.dtype in {torch.uint8, torch.int16, torch.int32} else labels.to(torch.int32)
    padded = torch.nn.functional.pad(whole, (1,) * 6)
    inside = torch.ones(coordinates.shape[:3], dtype=torch.bool, device=coordinates.device)
    first = torch.zeros(coordinates.shape[:3], dtype=torch.int32, device=coordinates.device)
    for x, n in zip(coordinates.unbind(-1), labels.shape, strict=True):
        inside &= (x > -1) & (x < n)  # false for NaN too
        first.mul_(n + 2).add_(x.floor().clamp_(-1, n - 1).int()).add_(1)
    first *= inside
    first = first.flatten()
    cells = padded.flatten()
    out = cells.index_select(0, first) * inside.flatten()
    unclear = (_edges(padded).flatten().index_select(0, first) & inside.flatten()).nonzero()[:, 0]
    places = [x.flatten()[unclear] for x in coordinates.unbind(-1)]
    out[unclear] = _elect(padded, first[unclear].long(), places)
    return out.reshape(inside.shape).to(labels.dtype)


def _edges(padded: Tensor) -> Tensor:
    """Where the eight voxels from a voxel on are not all of its label."""
    out = torch.zeros(padded.shape, dtype=torch.bool, device=padded.device)
    first = padded[:-1, :-1, :-1]
    for a, b, c in _CORNERS[1:]:
        out[:-1, :-1, :-1] |= padded[a : a - 1 or None, b : b - 1 or None, c : c - 1 or None] != first
    return out


def _elect(padded: Tensor, first: Tensor, places: list[Tensor]) -> Tensor:
    """The vote at N places: `first` (N,) is the lowest of the eight voxels, `places` three times (N,)."""
    _, J, K = padded.shape
    high = [x - x.floor() for x in places]
    side = [1 - x for x in high], high
    found = torch.stack([padded.flatten()[first + (a * J + b) * K + c] for a, b, c in _CORNERS])
    weight = torch.stack([side[a][0] * side[b][1] * side[c][2] for a, b, c in _CORNERS])
    # Two labels in almost all places: one against the other.
    less, more = found.min(0).values, found.max(0).values
    is_less, is_more = found == less, found == more
    out = torch.where((weight * is_more).sum(0) > (weight * is_less).sum(0), more, less)
    rest = (~(is_less | is_more).all(0)).nonzero()[:, 0]
    found, weight = found[:, rest], weight[:, rest]
    score = torch.stack([(weight * (found == label)).sum(0) for label in found])
    best = score == score.max(0).values
    out[rest] = torch.where(best, found, torch.iinfo(found.dtype).max).min(0).values
    return out


@kernel
def vote(labels, u, v, t, found, weight):
    """One place: labels (8,) in the order of the corners, the place's fractions; two buffers (8,)."""
    n = 0
    for e in range(8):
        share = (u if e & 4 else 1 - u) * (v if e & 2 else 1 - v) * (t if e & 1 else 1 - t)
        m = 0
        while m < n and found[m] != labels[e]:
            m += 1
        if m == n:
            found[n], weight[n] = labels[e], 0
            n += 1
        weight[m] += share
    best = 0
    for m in range(1, n):
        if weight[m] > weight[best] or (weight[m] == weight[best] and found[m] < found[best]):
            best = m
    return found[best]
