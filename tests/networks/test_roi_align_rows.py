"""Sparse interpolation matrices against dense ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medseg.networks import roi_align_rows as sparse

SIZE = 9


@given(
    taps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, SIZE - 1), st.integers(0, 4)), max_size=12),
)
def test_rows_and_columns_are_the_dense_matrix(taps):
    taps = sorted(taps, key=lambda t: t[0])
    bins, low = (np.array([t[k] for t in taps], np.int64) for k in (0, 1))
    far = np.array([t[2] / 8 if t[1] < SIZE - 1 else 0 for t in taps], np.float64)
    near = np.array([0.5 if t[2] else 0 for t in taps], np.float64) - far  # some samples weigh nothing
    dense = np.zeros((4, SIZE + 1))
    np.add.at(dense, (bins, low), near)
    np.add.at(dense, (bins, low + 1), far)

    most = 2 * max(len(taps), 1)
    start, index, weight = np.empty(5, np.int64), np.empty(most, np.int64), np.empty(most)
    sums, place = np.zeros(SIZE + 1), np.full(SIZE + 1, -1, np.int64)
    n = sparse.rows(low, near, far, bins, 4, sums, start, index, weight)
    rebuilt = np.zeros_like(dense)
    for p in range(4):
        rebuilt[p, index[start[p] : start[p + 1]]] = weight[start[p] : start[p + 1]]
    assert np.array_equal(rebuilt, dense)
    assert n == np.count_nonzero(dense)
    assert not sums.any()

    voxels = np.empty(SIZE, np.int64)
    t_start, t_index, t_weight = np.empty(SIZE + 1, np.int64), np.empty(most, np.int64), np.empty(most)
    used = sparse.columns(start, index, weight, 4, place, voxels, t_start, t_index, t_weight)
    assert voxels[:used].tolist() == np.flatnonzero(dense.any(0)).tolist()
    rebuilt = np.zeros_like(dense)
    for j in range(used):
        assert np.all(np.diff(t_index[t_start[j] : t_start[j + 1]]) > 0)
        rebuilt[t_index[t_start[j] : t_start[j + 1]], voxels[j]] = t_weight[t_start[j] : t_start[j + 1]]
    assert np.array_equal(rebuilt, dense)
    assert (place == -1).all()

    begin, length = np.empty(SIZE, np.int64), np.empty(SIZE, np.int64)
    count = sparse.runs(voxels, used, begin, length)
    joined = [voxels[b] + i for b, n in zip(begin[:count], length[:count], strict=True) for i in range(n)]
    assert joined == voxels[:used].tolist()
    gaps = np.flatnonzero(np.diff(voxels[:used]) > 1) + 1
    assert begin[:count].tolist() == ([0, *gaps.tolist()] if used else [])
