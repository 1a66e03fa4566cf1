"""Affine and elastic deformation in one resampling, chosen apart from applied.

The map from output to input voxels is a tensor-product cubic B-spline over a coarse grid of control points
(Rueckert et al., IEEE TMI 1999). Splines reproduce linear maps, so rotation, scaling and shift are folded
into the control points, and the dense field costs three small matrix products instead of a convolution of
noise. `RandDeformd` draws a `Deformation` (plain data); `deform` and `deform_labels` apply it, purely.

Worked example along one axis: control points stand every h = (n - 1) / (m - 3) voxels at -h, 0, h, ...;
without noise the point at -h has value -h and so on, and the spline at voxel x is x again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from medseg.transforms.instances.check import instance_map
from medseg.transforms.instances.place import draw_box, draw_start
from medseg.transforms.vote import vote_labels

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from monai.config import KeysCollection


@dataclass(frozen=True, eq=False)
class Deformation:
    """Where every output voxel comes from.

    Args:
        size: output voxels (D, H, W).
        control: (3, m, m, m) input voxel coordinates at the control points.
    """

    size: tuple[int, int, int]
    control: Tensor

    @cached_property
    def coordinates(self) -> Tensor:
        """(D, H, W, 3) continuous input voxel indices."""
        points = self.control
        for axis, n in enumerate(self.size, 1):
            basis = spline_basis(n, points.shape[axis])
            points = (points.movedim(axis, -1) @ basis.T).movedim(-1, axis)
        return points.permute(1, 2, 3, 0)


def spline_basis(n: int, m: int) -> Tensor:
    """(n, m) weights of m uniform cubic B-spline control points at n voxels; every row sums to 1."""
    if m < 4:
        msg = f"a cubic spline needs at least 4 control points, got {m}"
        raise ValueError(msg)
    t = torch.arange(n, dtype=torch.float64) * ((m - 3) / max(n - 1, 1))
    cell = t.floor().clamp(max=m - 4)
    u = t - cell
    weights = torch.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3], 1) / 6
    basis = torch.zeros(n, m, dtype=torch.float64)
    return basis.scatter_(1, cell.long()[:, None] + torch.arange(4), weights).float()


def control_points(size: Sequence[int], m: int) -> Tensor:
    """(3, m, m, m) voxel coordinates of control points that make the spline the identity."""
    axes = [torch.arange(-1, m - 1, dtype=torch.float64) * ((n - 1) / (m - 3)) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def deform(image: Tensor, deformation: Deformation) -> Tensor:
    """Linear interpolation of (C, I, J, K) at the deformed coordinates; zero outside -> (C, D, H, W) float32."""
    where = _to_grid_sample(deformation.coordinates, image.shape[1:])
    return torch.nn.functional.grid_sample(image[None].float(), where, align_corners=True)[0]


def deform_labels(labels: Tensor, deformation: Deformation) -> Tensor:
    """The label of greatest interpolated weight, of (1, I, J, K) >= 0; 0 outside -> (1, D, H, W), same dtype."""
    return vote_labels(labels[0], deformation.coordinates)[None]


def _to_grid_sample(coordinates: Tensor, size: Sequence[int]) -> Tensor:
    """Voxel indices -> (1, D, H, W, 3) in [-1, 1], last axis first, as grid_sample(align_corners=True) wants."""
    last = torch.tensor([max(n - 1, 1) for n in size], dtype=torch.float32)
    return (coordinates.float() * (2 / last) - 1).flip(-1)[None]


class RandDeformd(RandomizableTransform, MapTransform):
    """Cut a patch at a random place, with random rotation, scaling and elastic deformation, in one resampling.

    Args:
        keys: images and labels (1 or C, I, J, K), all on one grid.
        label_keys: those of `keys` that hold labels.
        spatial_size: size of the patch; an image smaller than it is padded with zero.
        prob: probability of deforming at all; else the patch is only cut.
        rotate_deg: largest rotation about each axis.
        scale: smallest and largest zoom factor; > 1 enlarges what is seen.
        elastic_mm: largest standard deviation of the control points' displacement.
        control: control points along each axis, at least 4; more make finer deformation.
        instance_key: an instance map (an integer label of `InstancesFromLabeld`); the patch then lies around a random
            instance with probability `instance_prob`, else anywhere. None: always anywhere.
        instance_prob: see above.
        flags_key: the instances' table of flags; regions to ignore are no instance. It may be absent.

    Voxel spacing is taken from the first image's affine (a plain tensor counts as 1 mm), so that a rotation
    stays a rotation on anisotropic grids.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: str | Sequence[str],
        spatial_size: Sequence[int],
        prob: float = 0.8,
        rotate_deg: float = 20.0,
        scale: tuple[float, float] = (0.8, 1.25),
        elastic_mm: float = 2.0,
        control: int = 7,
        allow_missing_keys: bool = False,
        instance_key: str | None = None,
        instance_prob: float = 0.7,
        flags_key: str = "flags",
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.label_keys = {label_keys} if isinstance(label_keys, str) else set(label_keys)
        self.spatial_size = tuple(int(n) for n in spatial_size)
        self.rotate_deg = rotate_deg
        self.scale = scale
        self.elastic_mm = elastic_mm
        self.control = control
        self.instance_key = instance_key
        self.instance_prob = instance_prob
        self.flags_key = flags_key

    def choose(self, shape: Sequence[int], spacing_mm: np.ndarray, box: Sequence[float] | None = None) -> Deformation:
        """Draw one deformation for an image of this shape (I, J, K) and spacing, around `box` (voxel edges) if any."""
        # Whole-voxel shifts only: a patch that is not deformed is cut exactly.
        start = draw_start(self.R, shape, self.spatial_size, box)
        points = control_points(self.spatial_size, self.control).numpy()
        if self.R.rand() < self.prob:
            centre = (np.array(self.spatial_size).reshape(3, 1, 1, 1) - 1) / 2
            linear = _rotation(np.radians(self.R.uniform(-self.rotate_deg, self.rotate_deg, 3)))
            low, high = np.log(self.scale)
            linear = linear * np.exp(-self.R.uniform(low, high))
            noise = self.R.standard_normal(points.shape) * self.R.uniform(0, self.elastic_mm)
            mm = spacing_mm.reshape(3, 1, 1, 1)
            turned = np.einsum("ab,bijk->aijk", linear, (points - centre) * mm) + noise
            points = turned / mm + centre
        points = points + np.reshape(start, (3, 1, 1, 1))
        d, h, w = self.spatial_size
        return Deformation((d, h, w), torch.from_numpy(points).float())

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """All keys deformed alike; plain tensors (C, D, H, W), since the patch lies on no stored grid."""
        out = dict(data)
        first = next(data[key] for key in self.key_iterator(out))
        spacing = np.ones(3)
        if isinstance(first, MetaTensor):
            spacing = np.linalg.norm(np.asarray(first.affine)[:3, :3], axis=0)
        box = None
        if self.instance_key is not None and self.R.rand() < self.instance_prob:
            box = draw_box(self.R, instance_map(data, self.instance_key), data.get(self.flags_key))
        deformation = self.choose(first.shape[1:], spacing, box)
        for key in self.key_iterator(out):
            apply = deform_labels if key in self.label_keys else deform
            value = data[key]
            out[key] = apply(value.as_tensor() if isinstance(value, MetaTensor) else value, deformation)
        return out


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation about the three axes in turn, radians -> (3, 3)."""
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = [n for n in range(3) if n != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        out = out @ turn
    return out
