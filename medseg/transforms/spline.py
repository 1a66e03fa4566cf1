"""A map of space as a cubic B-spline: affine and elastic deformation in one, and a proof that it does not fold.

The map from output to input voxels is a tensor-product cubic B-spline over a coarse grid of control points
(Rueckert et al., IEEE TMI 1999). Splines reproduce linear maps, so rotation, scaling and shift are folded into the
control points, and nothing is resampled twice.

Worked example along one axis: control points stand every h = (n - 1) / (m - 3) voxels at -h, 0, h, ...;
without noise the point at -h has value -h and so on, and the spline at voxel x is x again.

A map folds where its Jacobian determinant is not positive. In every cell between control points the derivative of a
spline is a polynomial, and a weighted mean of its few Bernstein coefficients (`gradient_hull`): where all of these
are small, it is small everywhere, between voxels too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

#: Of a cell's four control points (rows) to the Bernstein coefficients of the spline and of its derivative in it.
_VALUE = np.array([[1, 4, 1, 0], [0, 4, 2, 0], [0, 2, 4, 0], [0, 1, 4, 1]]) / 6
_RISE = 3 * np.diff(_VALUE, axis=0)
_DERIVATIVE = np.stack([_RISE[0], (_RISE[0] + 2 * _RISE[1]) / 3, (2 * _RISE[1] + _RISE[2]) / 3, _RISE[2]])


@dataclass(frozen=True, eq=False)
class Deformation:
    """Where every output voxel comes from.

    Args:
        size: output voxels (D, H, W).
        control: (3, m, m, m) float32 input voxel coordinates at the control points, on the CPU.
        start: where the map is only a shift by whole voxels, the input voxel of output voxel 0; else None.
    """

    size: tuple[int, int, int]
    control: Tensor
    start: tuple[int, int, int] | None = None

    @cached_property
    def coordinates(self) -> Tensor:
        """(D, H, W, 3) continuous input voxel indices."""
        return coordinates([self])[0]

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` gives the same map bit for bit."""
        start = None if self.start is None else list(self.start)
        return {"size": list(self.size), "start": start, "control": self.control.tolist()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Deformation:
        """What `to_json` wrote."""
        d, h, w = row["size"]
        start = row.get("start")
        return cls(
            (d, h, w), torch.tensor(row["control"], dtype=torch.float32), None if start is None else tuple(start)
        )


def spline_basis(n: int, m: int) -> Tensor:
    """(n, m) weights of m uniform cubic B-spline control points at n voxels; every row sums to 1."""
    cell, weights = spline_taps(n, m)
    basis = torch.zeros(n, m)
    index = torch.from_numpy(cell)[:, None] + torch.arange(4)
    return basis.scatter_(1, index, torch.from_numpy(np.ascontiguousarray(weights.T)))


@lru_cache(maxsize=32)
def spline_taps(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """The same, sparse: of each of n voxels the first of its four control points (n,), and their weights (4, n)."""
    if m < 4:
        msg = f"a cubic spline needs at least 4 control points, got {m}"
        raise ValueError(msg)
    t = np.arange(n) * ((m - 3) / max(n - 1, 1))
    cell = np.minimum(np.floor(t), m - 4)
    u = t - cell
    weights = np.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3]) / 6
    return cell.astype(np.int64), np.ascontiguousarray(weights, np.float32)


def control_points(size: Sequence[int], m: int) -> Tensor:
    """(3, m, m, m) voxel coordinates of control points that make the spline the identity."""
    axes = [torch.arange(-1, m - 1, dtype=torch.float64) * ((n - 1) / (m - 3)) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def coordinates(deformations: Sequence[Deformation], device: torch.device | str = "cpu") -> Tensor:
    """(B, D, H, W, 3) continuous input voxel indices of maps of one size and one number of control points."""
    points = torch.stack([deformation.control for deformation in deformations]).to(device)
    for axis, n in enumerate(deformations[0].size, 2):
        basis = spline_basis(n, points.shape[axis]).to(device)
        points = (points.movedim(axis, -1) @ basis.T).movedim(-1, axis)
    return points.permute(0, 2, 3, 4, 1)


def jacobian_determinant(deformation: Deformation) -> Tensor:
    """(D, H, W) float64 determinant of the map's derivative at every output voxel; it folds where <= 0."""
    columns = []
    for along in range(3):
        points = deformation.control.double()
        for axis, n in enumerate(deformation.size):
            m = points.shape[axis + 1]
            basis = _derivative_basis(n, m) if axis == along else spline_basis(n, m).double()
            points = (points.movedim(axis + 1, -1) @ basis.T).movedim(-1, axis + 1)
        columns.append(points)
    return (torch.linalg.cross(columns[0], columns[1], dim=0) * columns[2]).sum(0)


def gradient_hull(noise: np.ndarray, step: Sequence[float]) -> np.ndarray:
    """Matrices such that the gradient of a displacement is a weighted mean of them wherever one looks.

    Args:
        noise: (3, m, m, m) displacement at the control points.
        step: between control points along the axes, in the displacement's unit.

    Returns:
        (K, 3, 3): the change of component a along axis b. Each cell's gradient is brought to the Bernstein form of
        degree 3 along all axes, whose weights are positive and sum to 1.
    """
    m = noise.shape[1]
    value, derivative = _bernstein(m)
    out = np.empty((3, 3, len(value) ** 3))
    for along in range(3):
        points = noise
        for axis in range(3):
            matrix = derivative / step[axis] if axis == along else value
            points = np.tensordot(points, matrix, (1, 1))  # the axis goes last: after three they are in order again
        out[:, along] = points.reshape(3, -1)
    return np.moveaxis(out, -1, 0)


def strain(noise: np.ndarray, step: Sequence[float], linear: np.ndarray | None = None) -> float:
    """By how much, at most, a displacement changes the shape of a small neighbourhood; below 1 nothing folds.

    With the linear map L the Jacobian is L + N = L (I + L^-1 N). If the Frobenius norm of L^-1 N is s < 1 everywhere,
    then det(I + L^-1 N) >= (1 - s)^3 > 0: the map has the orientation of L and is one to one in every neighbourhood.

    Args:
        noise: (3, m, m, m) displacement at the control points.
        step: between control points along the axes, same unit.
        linear: (3, 3), None: the identity.
    """
    hull = gradient_hull(noise, step)
    if linear is not None:
        hull = np.linalg.inv(linear) @ hull
    return float(np.sqrt((hull**2).sum((1, 2)).max()))


@lru_cache(maxsize=8)
def _bernstein(m: int) -> tuple[np.ndarray, np.ndarray]:
    """(4 (m - 3), m) each: values and derivatives (a control step) in Bernstein form, cell after cell."""
    cells = m - 3
    value, derivative = np.zeros((2, 4 * cells, m))
    for c in range(cells):
        value[4 * c : 4 * c + 4, c : c + 4] = _VALUE
        derivative[4 * c : 4 * c + 4, c : c + 4] = _DERIVATIVE
    return value, derivative


def _derivative_basis(n: int, m: int) -> Tensor:
    """(n, m) weights of the control points in the spline's derivative by the voxel index."""
    scale = (m - 3) / max(n - 1, 1)
    t = torch.arange(n, dtype=torch.float64) * scale
    cell = t.floor().clamp(max=m - 4)
    u = t - cell
    weights = torch.stack([-((1 - u) ** 2), 3 * u**2 - 4 * u, -3 * u**2 + 2 * u + 1, u**2], 1) / 2 * scale
    return torch.zeros(n, m, dtype=torch.float64).scatter_(1, cell.long()[:, None] + torch.arange(4), weights)
