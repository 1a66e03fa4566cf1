"""Surface metrics by their definitions, all pairs of points: the oracle of `medseg.metrics.surface`.

Only for small masks: memory grows with the product of the surfaces. The numbers are those of MONAI 1.6.1 ("border"),
surface-distance 0.1 ("surfel") and MedPy 0.5.2 ("pooled"), written from their formulas.
"""

from __future__ import annotations

import functools

import numpy as np

FACES = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]


def border(mask):
    """(N, 3) indices of voxels with a face to the outside; the array's border is outside."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for face in FACES:
        inner &= np.roll(padded, face, (0, 1, 2))
    return np.argwhere(padded & ~inner) - 1


def corners(mask):
    """(N, 3) corners that are neither all inside nor all outside, and (N,) the code of their eight voxels."""
    padded = np.pad(mask, 1).astype(int)
    n = [slice(0, -1), slice(1, None)]
    code = 0
    for a in (0, 1):
        for b in (0, 1):
            for c in (0, 1):
                code = code + (128 >> (4 * a + 2 * b + c)) * padded[n[a], n[b], n[c]]
    at = np.argwhere((code > 0) & (code < 255))
    return at, code[tuple(at.T)]


@functools.cache
def normals():
    """(256, 4, 3) of the triangles of each code, from MONAI; its two slips (signs) do not change an area."""
    from monai.metrics.utils import _get_neighbour_code_to_normals_table

    return _get_neighbour_code_to_normals_table().numpy().astype(float)


def areas(codes, spacing):
    a, b, c = (float(mm) for mm in spacing)
    table = np.linalg.norm(normals() * [b * c, a * c, a * b], axis=-1).sum(-1)
    return table[codes]


def nearest(points, others, spacing):
    """(N,) mm from each point to the nearest of the others."""
    x, y, z = (((p[:, None] - o) * float(mm)) ** 2 for p, o, mm in zip(points.T, others.T, spacing, strict=True))
    return np.sqrt(np.min((x + y) + z, axis=1))


def within(mm, tolerance):
    return mm.astype(np.float32) <= np.float32(tolerance)


def shells(mask, depths, spacing):
    """Per depth the voxels of the mask at most so far from its border."""
    at = np.argwhere(mask)
    mm = nearest(at, border(mask), spacing)
    out = np.zeros((len(depths), *mask.shape), bool)
    for shell, depth in zip(out, depths, strict=True):
        shell[tuple(at[within(mm, depth)].T)] = True
    return out


def ratio(a, b):
    return 2 * a * b / (a + b) if a and b else 0.0


def weighed_percentile(mm, area, percent):
    order = np.lexsort((area, mm))
    share = np.cumsum(area[order]) / np.sum(area[order])
    return mm[order][min(np.searchsorted(share, percent / 100), len(mm) - 1)]


def surface(pred, ref, spacing, definition, percentiles=(95,), tolerances=(1, 2)):
    """Name -> value as in `SurfaceMetrics.rows()`."""
    if not pred.any() or not ref.any():
        far, share = (np.inf, 0.0) if pred.any() or ref.any() else (0.0, 1.0)
        names = ["hd_mm", *(f"hd{q:g}_mm" for q in percentiles), "assd_mm", "masd_mm"]
        shares = [f"{name}@{t:g}mm" for name in ("nsd", "boundary_iou", "boundary_f1") for t in tolerances]
        return dict.fromkeys(names, far) | dict.fromkeys(shares, share)
    if definition == "surfel":
        (p, p_code), (r, r_code) = corners(pred), corners(ref)
        p_area, r_area = areas(p_code, spacing), areas(r_code, spacing)
    else:
        p, r = border(pred), border(ref)
        p_area, r_area = np.ones(len(p)), np.ones(len(r))
    a, b = nearest(p, r, spacing), nearest(r, p, spacing)
    means = np.average(a, weights=p_area), np.average(b, weights=r_area)
    out = {"hd_mm": max(a.max(), b.max())}
    for q in percentiles:
        if definition == "surfel":
            value = max(weighed_percentile(a, p_area, q), weighed_percentile(b, r_area, q))
        elif definition == "border":
            value = max(np.percentile(a, q), np.percentile(b, q))
        else:
            value = np.percentile(np.concatenate([a, b]), q)
        out[f"hd{q:g}_mm"] = value
    out["assd_mm"] = np.mean(means) if definition == "surfel" else np.concatenate([a, b]).mean()
    out["masd_mm"] = np.mean(means)
    near = (lambda mm, t: mm <= t) if definition == "surfel" else within
    for t, one, other in zip(
        tolerances, shells(pred, tolerances, spacing), shells(ref, tolerances, spacing), strict=True
    ):
        x, y = p_area[near(a, t)].sum(), r_area[near(b, t)].sum()
        out[f"nsd@{t:g}mm"] = (x + y) / (p_area.sum() + r_area.sum())
        out[f"boundary_f1@{t:g}mm"] = ratio(x / p_area.sum(), y / r_area.sum())
        out[f"boundary_iou@{t:g}mm"] = (one & other).sum() / (one | other).sum()
    return out
