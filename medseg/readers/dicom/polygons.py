"""Filling polygons at pixel centres, exactly.

A centre is inside when a ray from it crosses the outlines an odd number of times (even-odd rule), over all
outlines of a structure together: holes, islands in holes and keyhole outlines need no case of their own.
A centre *on* an outline is inside too, so that a contour traced through the centres of a mask's border pixels
gives back that mask.

Worked example: the square (0, 0), (2, 0), (2, 2), (0, 2) covers the nine centres 0..2 x 0..2; with the corners at
0.5 and 1.5 it covers one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A centre this near to an outline (in pixels) lies on it; contours are stored with a few decimals.
ON_OUTLINE = 1e-3


def fill_polygons(outlines: Sequence[np.ndarray], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The pixels whose centres lie inside closed outlines, and those whose centres lie on them.

    Args:
        outlines: each (n, 2), pixel coordinates along the two axes of the result; closed by themselves.
        shape: (A, B) of the result.

    Returns:
        (A, B) bool of centres inside or on the outlines, and (A, B) bool of those on them.
    """
    start = np.concatenate([np.asarray(o, np.float64) for o in outlines])
    stop = np.concatenate([np.roll(np.asarray(o, np.float64), -1, axis=0) for o in outlines])
    # Only the pixels between the outermost corners are looked at: a structure is small in its image.
    low = np.clip(np.floor(start.min(axis=0) - 1), 0, shape).astype(int)
    high = np.clip(np.ceil(start.max(axis=0) + 2), low, shape).astype(int)
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    mask, border = np.zeros(shape, bool), np.zeros(shape, bool)
    border[window] = _on_outline(start - low, stop - low, size)
    mask[window] = _odd_crossings(start - low, stop - low, size) | border[window]
    return mask, border


def _odd_crossings(start: np.ndarray, stop: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    # An edge crosses row a when low <= a < high: shared end points count once, flat edges never.
    low, high = np.minimum(start[:, 0], stop[:, 0]), np.maximum(start[:, 0], stop[:, 0])
    edge, row = _steps(np.ceil(low), np.ceil(high) - 1, shape[0])
    share = (row - start[edge, 0]) / (stop[edge, 0] - start[edge, 0])
    where = start[edge, 1] + share * (stop[edge, 1] - start[edge, 1])
    column = np.clip(np.ceil(where), 0, shape[1]).astype(np.intp)
    toggles = np.zeros((shape[0], shape[1] + 1), np.int32)
    np.add.at(toggles, (row, column), 1)
    return (np.cumsum(toggles, axis=1)[:, :-1] & 1).astype(bool)


def _on_outline(start: np.ndarray, stop: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    # Steep edges are walked along axis 0, flat ones along axis 1: then the distance along the other axis is at
    # most sqrt(2) times the distance to the edge.
    out = np.zeros(shape, bool)
    steep = np.abs(stop - start)[:, 0] >= np.abs(stop - start)[:, 1]
    _mark(out, start[steep], stop[steep])
    _mark(out.T, start[~steep, ::-1], stop[~steep, ::-1])
    return out


def _mark(out: np.ndarray, start: np.ndarray, stop: np.ndarray) -> None:
    low, high = np.minimum(start[:, 0], stop[:, 0]), np.maximum(start[:, 0], stop[:, 0])
    edge, row = _steps(np.ceil(low - ON_OUTLINE), np.floor(high + ON_OUTLINE), out.shape[0])
    length = stop[edge, 0] - start[edge, 0]
    share = np.divide(row - start[edge, 0], length, out=np.zeros(len(edge)), where=length != 0)
    where = start[edge, 1] + np.clip(share, 0, 1) * (stop[edge, 1] - start[edge, 1])
    column = np.rint(where)
    near = (np.abs(where - column) <= ON_OUTLINE) & (column >= 0) & (column < out.shape[1])
    out[row[near], column[near].astype(np.intp)] = True


def _steps(first: np.ndarray, last: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """For each edge the whole numbers first..last that lie in 0..size-1: (edge, number) pairs."""
    first = np.clip(first, 0, size).astype(np.intp)
    last = np.clip(last, -1, size - 1).astype(np.intp)
    count = np.maximum(last - first + 1, 0)
    edge = np.repeat(np.arange(len(first)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return edge, first[edge] + within
