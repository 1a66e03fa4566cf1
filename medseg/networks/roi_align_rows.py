"""The interpolation matrix of one RoI along one axis, sparse: by bins for reading, by voxels for the way back."""

from __future__ import annotations

from medseg.jit import kernel


@kernel
def rows(low, near, far, bins, count, sums, start, index, weight):
    """The rows of the interpolation matrix, sparse: bin p is the sum of weight[k] * voxel index[k], k < start[p + 1].

    Samples that share a voxel are joined. `sums` is zero before and after. Returns how many entries there are.
    """
    n = 0
    k = 0
    for p in range(count):
        start[p] = n
        first, last = sums.size, -1
        while k < low.size and bins[k] <= p:
            if near[k] != 0 or far[k] != 0:
                v = low[k]
                sums[v] += near[k]
                sums[v + 1] += far[k]
                first, last = min(first, v), max(last, v + 1)
            k += 1
        for v in range(first, last + 1):
            if sums[v] != 0:
                index[n], weight[n] = v, sums[v]
                sums[v] = 0
                n += 1
    start[count] = n
    return n


@kernel
def touched(index, count, place, voxels, renumber):
    """The voxels of the first `count` entries, rising, each once. Returns how many.

    `place` is -1 before and after. If asked, the entries are renumbered to their places among the touched voxels.
    """
    low, high = place.size, -1
    for k in range(count):
        low, high = min(low, index[k]), max(high, index[k])
        place[index[k]] = 0
    n = 0
    for v in range(low, high + 1):
        if place[v] == 0:
            place[v] = n
            voxels[n] = v
            n += 1
    if renumber:
        for k in range(count):
            index[k] = place[index[k]]
    for v in range(low, high + 1):
        place[v] = -1
    return n


@kernel
def columns(start, index, weight, count, place, voxels, t_start, t_index, t_weight):
    """The same matrix by its columns: which voxels are touched, and which bins each of them feeds, both rising.

    Returns the number of touched voxels; voxel voxels[j] feeds bin t_index[k] by t_weight[k], k < t_start[j + 1].
    """
    n = start[count]
    used = touched(index, n, place, voxels, True)
    t_start[: used + 1] = 0
    for k in range(n):
        t_start[index[k] + 1] += 1
    for j in range(used):
        t_start[j + 1] += t_start[j]
    for p in range(count):  # t_start moves on to the end of each column and is set back below
        for k in range(start[p], start[p + 1]):
            to = t_start[index[k]]
            t_index[to], t_weight[to] = p, weight[k]
            t_start[index[k]] += 1
    for j in range(used, 0, -1):
        t_start[j] = t_start[j - 1]
    t_start[0] = 0
    return used


@kernel
def runs(voxels, used, begin, length):
    """Runs of neighbouring touched voxels, as places among the touched ones. Returns how many runs."""
    n = 0
    for j in range(used):
        if j == 0 or voxels[j] != voxels[j - 1] + 1:
            begin[n], length[n] = j, 0
            n += 1
        length[n - 1] += 1
    return n
