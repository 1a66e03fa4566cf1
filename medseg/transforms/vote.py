"""Labels at places between voxels: the label with the greatest trilinear weight.

A place between eight voxels gives each of them a weight; the weights of equal labels add up, and the greatest sum
wins. That equals linear interpolation of every label's own mask and taking the greatest, but looks at eight voxels a
place however many labels there are. Worked example along one axis: labels 5, 7 at voxels 0, 1; the place 0.3 has
weights 0.7 and 0.3, and is 5.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medseg.jit import in_slabs, kernel


def vote_labels(labels: Tensor, coordinates: Tensor) -> Tensor:
    """The label of greatest trilinear weight at every place; what lies outside counts as background.

    Args:
        labels: (I, J, K) whole numbers from 0 that fit 32 bits, any dtype.
        coordinates: (D, H, W, 3) continuous voxel indices.

    Returns:
        (D, H, W), of the labels' dtype. Of labels with equal weights the smaller wins.
    """
    source = np.ascontiguousarray(labels.numpy().astype(np.int32, copy=False))
    places = np.ascontiguousarray(coordinates.numpy().astype(np.float32, copy=False))
    out = np.empty(places.shape[:3], np.int32)
    in_slabs(lambda a, b: _vote(source, places[a:b], out[a:b]), len(out), torch.get_num_threads())
    return torch.from_numpy(out).to(labels.dtype)


@kernel
def _vote(labels, places, out):
    ni, nj, nk = labels.shape
    nd, nh, nw = out.shape
    found = np.empty(8, np.int32)
    weight = np.empty(8, np.float32)
    for d in range(nd):
        for h in range(nh):
            for w in range(nw):
                x, y, z = places[d, h, w, 0], places[d, h, w, 1], places[d, h, w, 2]
                if not (-1 < x < ni and -1 < y < nj and -1 < z < nk):  # NaN too
                    out[d, h, w] = 0
                    continue
                i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
                u, v, t = x - np.float32(i), y - np.float32(j), z - np.float32(k)
                n = 0
                for a in range(2):
                    for b in range(2):
                        for c in range(2):
                            p, q, r = i + a, j + b, k + c
                            inside = 0 <= p < ni and 0 <= q < nj and 0 <= r < nk
                            label = labels[p, q, r] if inside else 0
                            share = (u if a else 1 - u) * (v if b else 1 - v) * (t if c else 1 - t)
                            m = 0
                            while m < n and found[m] != label:
                                m += 1
                            if m == n:
                                found[n], weight[n] = label, 0
                                n += 1
                            weight[m] += share
                best = 0
                for m in range(1, n):
                    if weight[m] > weight[best] or (weight[m] == weight[best] and found[m] < found[best]):
                        best = m
                out[d, h, w] = found[best]
