"""Distances between surfaces in mm, each number with the name of its definition.

Published tools disagree on one pair of masks because they mean different things by a surface (elements), and by a
percentile or a mean of two directions. Three definitions are offered; each reproduces its origin:

    definition  elements                        HDp                           ASSD                   origin
    border      voxels with a 6-neighbour       max of the two directed       mean of all distances  MONAI,
                outside, counted                percentiles (interpolated)                           Metrics Reloaded
    surfel      corners between inside and      max of the two directed       mean of the two        DeepMind's
                outside, weighed by area        percentiles (of the area)     directed means         surface-distance
    pooled      as border                       percentile of all distances   mean of all distances  MedPy 0.5.2

In all of them HD (Hausdorff) is the largest distance, MASD the mean of the two directed means, NSD at t mm (surface
Dice; Nikolov et al., 2018) the part of both surfaces together that lies at most t from the other, and boundary F1
(Csurka et al., BMVC 2013) the harmonic mean of that part of the prediction's surface and that part of the
reference's. Boundary IoU is one of voxels, see `medseg.metrics.boundary`. Outside the array there is no structure, so
that voxels on its border belong to the surface.

Worked example: two voxels two apart, spacing 1 mm. "border": all distances are 2 mm. "surfel": each has eight corners
of equal area, four 1 mm and four 2 mm from the other's: ASSD 1.5 mm, HD 2 mm, NSD at 1 mm 0.5.

One pass over each label map finds the runs of every value (`runs`); structures are sets of voxels (`voxelset`), from
which edges, distances (`nearest`) and everything else follow without the label maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from medseg.metrics.boundary import boundary_iou
from medseg.metrics.directed import Counted, Weighed, weighed
from medseg.metrics.nearest import distances, lattice
from medseg.metrics.runs import checked, in_one_order, runs
from medseg.metrics.structures import Labels, Status, status_of, structures
from medseg.metrics.surfels import areas_mm2, codes, surfels
from medseg.metrics.voxelset import voxel_sets

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from medseg.metrics.nearest import Lattice
    from medseg.metrics.voxelset import VoxelSet

#: What a surface is and how its distances are read; see the table above.
Definition = Literal["border", "surfel", "pooled"]


@dataclass(frozen=True)
class SurfaceMetrics:
    """How far the surface of a structure in the prediction lies from that in the reference.

    Both empty: distances 0, the others 1. One empty: distances infinite, the others 0.

    Args:
        definition: what a surface is.
        status: see `medseg.metrics.structures.Status`.
        hd_mm: Hausdorff distance.
        percentiles_mm: percent -> robust Hausdorff distance.
        assd_mm: average symmetric surface distance.
        masd_mm: mean of `pred_to_ref_mm` and `ref_to_pred_mm`.
        nsd: tolerance in mm -> normalised surface Dice, in [0, 1].
        boundary_iou: depth in mm -> boundary IoU, in [0, 1].
        boundary_f1: tolerance in mm -> boundary F1, in [0, 1].
        n_pred: elements of the prediction's surface (border voxels), or its area in mm2 (surfels).
        n_ref: of the reference's.
        pred_to_ref_mm: mean distance of the prediction's elements from the reference's.
        ref_to_pred_mm: the other way round.
    """

    definition: Definition
    status: Status
    hd_mm: float
    percentiles_mm: dict[float, float]
    assd_mm: float
    masd_mm: float
    nsd: dict[float, float]
    boundary_iou: dict[float, float]
    boundary_f1: dict[float, float]
    n_pred: float
    n_ref: float
    pred_to_ref_mm: float
    ref_to_pred_mm: float

    def rows(self) -> Iterator[tuple[str, float]]:
        """(name of the metric, value)."""
        yield "hd_mm", self.hd_mm
        yield from ((f"hd{percent:g}_mm", value) for percent, value in self.percentiles_mm.items())
        yield from (("assd_mm", self.assd_mm), ("masd_mm", self.masd_mm))
        for name, values in (
            ("nsd", self.nsd),
            ("boundary_iou", self.boundary_iou),
            ("boundary_f1", self.boundary_f1),
        ):
            yield from ((f"{name}@{mm:g}mm", value) for mm, value in values.items())


def surface_metrics(
    pred: np.ndarray,
    ref: np.ndarray,
    *,
    spacing_mm: Sequence[float],
    labels: Labels | None = None,
    definition: Definition = "border",
    percentiles: Sequence[float] = (95,),
    tolerances_mm: Sequence[float] = (1, 2),
) -> dict[Hashable, SurfaceMetrics]:
    """Surface metrics of every structure of two label maps on one grid.

    Args:
        pred: (I, J, K) of any integer dtype or bool, C or Fortran order.
        ref: the same shape; dtype and order may differ (then one of them is copied).
        spacing_mm: distance between voxel centres along the array axes.
        labels: which structures, see `medseg.metrics.structures.Labels`; None: every value above 0 in either map.
        definition: "border", "surfel" or "pooled".
        percentiles: of the distances, in [0, 100], for robust Hausdorff distances.
        tolerances_mm: for NSD and boundary F1, and the depths for boundary IoU.

    Returns:
        One entry a structure, by its name, or its value where `labels` names none.

    Raises:
        ValueError: shapes differ, or spacing, definition, percentiles or tolerances are none.
        TypeError: a map does not hold integers.
    """
    pred, ref = np.asarray(pred), np.asarray(ref)
    checked(pred, ref)
    spacing = _checked_options(spacing_mm, definition, percentiles, tolerances_mm)
    pred, ref, turned = in_one_order(pred, ref)
    grid = lattice(pred.shape, spacing[::-1] if turned else spacing, turned=turned)
    zero = labels is not None and any(0 in values for values in structures(labels, ()).values())
    found = runs(pred, zero=zero), runs(ref, zero=zero)
    out = {}
    for key, values in structures(labels, [one.values for one in found]).items():
        sets = voxel_sets(*found, values)
        status = status_of(*(len(one.place) - 1 for one in sets))
        if status == "ok":
            out[key] = _measured(sets, grid, definition, percentiles, tolerances_mm)
        else:
            out[key] = _empty(status, sets, grid, definition, percentiles, tolerances_mm)
    return out


def _measured(
    sets: tuple[VoxelSet, VoxelSet],
    grid: Lattice,
    definition: Definition,
    percentiles: Sequence[float],
    tolerances_mm: Sequence[float],
) -> SurfaceMetrics:
    edges = sets[0].edge(), sets[1].edge()
    p, r = _weighed_sides(sets, grid) if definition == "surfel" else _counted_sides(edges, grid)
    both = Counted(np.concatenate([p.mm, r.mm]))
    near = {mm: (p.near(mm), r.near(mm)) for mm in tolerances_mm}
    masd = (p.mean + r.mean) / 2
    return SurfaceMetrics(
        definition=definition,
        status="ok",
        hd_mm=max(p.largest, r.largest),
        percentiles_mm={
            q: both.percentile(q) if definition == "pooled" else max(p.percentile(q), r.percentile(q))
            for q in percentiles
        },
        assd_mm=masd if definition == "surfel" else both.mean,
        masd_mm=masd,
        nsd={mm: (a + b) / (p.size + r.size) for mm, (a, b) in near.items()},
        boundary_iou={mm: boundary_iou((sets[0], edges[0]), (sets[1], edges[1]), mm, grid) for mm in tolerances_mm},
        boundary_f1={mm: _harmonic_mean(a / p.size, b / r.size) for mm, (a, b) in near.items()},
        n_pred=p.size,
        n_ref=r.size,
        pred_to_ref_mm=p.mean,
        ref_to_pred_mm=r.mean,
    )


def _counted_sides(edges: tuple[VoxelSet, VoxelSet], grid: Lattice) -> tuple[Counted, Counted]:
    p, r = (edge.points() for edge in edges)
    return Counted(distances(p, edges[1], r, grid)), Counted(distances(r, edges[0], p, grid))


def _weighed_sides(sets: tuple[VoxelSet, VoxelSet], grid: Lattice) -> tuple[Weighed, Weighed]:
    corners = surfels(sets[0]), surfels(sets[1])
    p, r = (one.points() for one in corners)
    p_code, r_code = (codes(at, one, turned=grid.turned) for at, one in zip(corners, sets, strict=True))
    area = areas_mm2(grid.file_spacing_mm)
    return (
        weighed(distances(p, corners[1], r, grid), p_code, area),
        weighed(distances(r, corners[0], p, grid), r_code, area),
    )


def _empty(
    status: Status,
    sets: tuple[VoxelSet, VoxelSet],
    grid: Lattice,
    definition: Definition,
    percentiles: Sequence[float],
    tolerances_mm: Sequence[float],
) -> SurfaceMetrics:
    mm, share = (0.0, 1.0) if status == "both_empty" else (float("inf"), 0.0)
    shares = dict.fromkeys(tolerances_mm, share)
    n_pred, n_ref = (_size(one, grid, definition) for one in sets)
    return SurfaceMetrics(
        definition=definition,
        status=status,
        hd_mm=mm,
        percentiles_mm=dict.fromkeys(percentiles, mm),
        assd_mm=mm,
        masd_mm=mm,
        nsd=shares,
        boundary_iou=dict(shares),
        boundary_f1=dict(shares),
        n_pred=n_pred,
        n_ref=n_ref,
        pred_to_ref_mm=mm,
        ref_to_pred_mm=mm,
    )


def _size(voxels: VoxelSet, grid: Lattice, definition: Definition) -> float:
    """Of the surface: elements or mm2."""
    if definition != "surfel":
        return float(len(voxels.edge().points()))
    return float(areas_mm2(grid.file_spacing_mm)[codes(surfels(voxels), voxels, turned=grid.turned)].sum())


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a and b else 0.0


def _checked_options(
    spacing_mm: Sequence[float], definition: str, percentiles: Sequence[float], tolerances_mm: Sequence[float]
) -> np.ndarray:
    """The spacing as (3,) float64."""
    spacing = np.asarray(spacing_mm, np.float64)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        msg = f"spacing_mm is three lengths above 0, one for each array axis, got {spacing_mm!r}"
        raise ValueError(msg)
    if definition not in get_args(Definition):
        msg = f"definition is one of {', '.join(map(repr, get_args(Definition)))}, got {definition!r}"
        raise ValueError(msg)
    if not all(0 <= percent <= 100 for percent in percentiles):
        msg = f"percentiles lie in [0, 100], got {tuple(percentiles)}"
        raise ValueError(msg)
    if not all(np.isfinite(mm) and mm >= 0 for mm in tolerances_mm):
        msg = f"tolerances_mm are finite lengths, 0 or more, got {tuple(tolerances_mm)}"
        raise ValueError(msg)
    return spacing
