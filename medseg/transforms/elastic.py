"""Patches cut with random rotation, scaling and elastic deformation, in one resampling; chosen apart from applied.

`RandDeformd` draws a `Deformation` (plain data, `medseg.transforms.spline`); `warp` applies it, purely.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform

from medseg.transforms.instances.check import instance_map
from medseg.transforms.instances.place import draw_box, draw_start
from medseg.transforms.record import note
from medseg.transforms.spline import Deformation, control_points, strain
from medseg.transforms.warp import deform_batch, warp

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from monai.config import KeysCollection
    from torch import Tensor

#: Stronger draws are weakened to this strain (`medseg.transforms.spline.strain`): below 1 nothing folds.
MOST_STRAIN = 0.9


class RandDeformd(RandomizableTransform, MapTransform):
    """Cut a patch at a random place, with random rotation, scaling and elastic deformation, in one resampling.

    Args:
        keys: images and labels (1 or C, I, J, K), all on one grid.
        label_keys: those of `keys` that hold labels.
        spatial_size: size of the patch; an image smaller than it is padded with zero.
        prob: probability of deforming at all; else the patch is only cut.
        rotate_deg: largest rotation about each axis.
        scale: smallest and largest zoom factor, drawn evenly by its logarithm; > 1 enlarges what is seen.
        elastic_mm: largest standard deviation of the control points' displacement. A draw that might fold space is
            weakened until it provably does not.
        control: control points along each axis, at least 4; more make finer deformation.
        instance_key: an instance map (an integer label of `InstancesFromLabeld`); the patch then lies around a random
            instance with probability `instance_prob`, else anywhere. None: always anywhere.
        instance_prob: see above.
        flags_key: the instances' table of flags; regions to ignore are no instance. It may be absent.
        rotate_prob: probability of rotating, where a patch is deformed at all.
        scale_prob: the same for scaling.
        elastic_prob: the same for elastic deformation. Where none of the three comes up the patch is only cut.
        record_key: where to note what was chosen (`medseg.transforms.replay` repeats it); None: nowhere.

    Not invertible: what leaves the patch is lost. Voxel spacing is taken from the first image's affine (a plain tensor counts as 1 mm), so that a rotation
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
        rotate_prob: float = 1.0,
        scale_prob: float = 1.0,
        elastic_prob: float = 1.0,
        record_key: str | None = None,
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
        self.rotate_prob = rotate_prob
        self.scale_prob = scale_prob
        self.elastic_prob = elastic_prob
        self.record_key = record_key

    def choose(self, shape: Sequence[int], spacing_mm: np.ndarray, box: Sequence[float] | None = None) -> Deformation:
        """Draw one deformation for an image of this shape (I, J, K) and spacing, around `box` (voxel edges) if any."""
        # Whole-voxel shifts only: a patch that is not deformed is cut exactly.
        start = draw_start(self.R, shape, self.spatial_size, box)
        d, h, w = self.spatial_size
        points = control_points(self.spatial_size, self.control).numpy()
        shift = np.reshape(start, (3, 1, 1, 1))
        deformed = self.R.rand() < self.prob
        turns, zooms, bends = (
            deformed and self._happens(p) for p in (self.rotate_prob, self.scale_prob, self.elastic_prob)
        )
        if not (turns or zooms or bends):
            return Deformation((d, h, w), torch.from_numpy(points + shift).float(), start)
        linear = np.eye(3)
        if turns:
            linear = _rotation(np.radians(self.R.uniform(-self.rotate_deg, self.rotate_deg, 3)))
        if zooms:
            low, high = np.log(self.scale)
            linear = linear * np.exp(-self.R.uniform(low, high))
        centre = (np.array(self.spatial_size).reshape(3, 1, 1, 1) - 1) / 2
        mm = spacing_mm.reshape(3, 1, 1, 1)
        moved = np.einsum("ab,bijk->aijk", linear, (points - centre) * mm)
        if bends:
            moved = moved + self._bend(points.shape, linear, spacing_mm)
        return Deformation((d, h, w), torch.from_numpy(moved / mm + centre + shift).float())

    def _happens(self, prob: float) -> bool:
        return prob >= 1 or self.R.rand() < prob

    def _bend(self, shape: Sequence[int], linear: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
        """Draw the control points' displacement, mm; as weak as it must be not to fold."""
        noise = self.R.standard_normal(shape) * self.R.uniform(0, self.elastic_mm)
        step_mm = (np.array(self.spatial_size) - 1) / (self.control - 3) * spacing_mm
        found = strain(noise, np.maximum(step_mm, 1e-9).tolist(), linear)
        return noise * min(1.0, MOST_STRAIN / max(found, 1e-9))

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """All keys deformed alike; plain tensors (C, D, H, W), since the patch lies on no stored grid."""
        deformation = self._choose_for(data)
        images, labels = self._sorted_keys(data)
        out = {**data, **deform_keys(data, images, labels, deformation)}
        note(out, self.record_key, deformation, keys=images, label_keys=labels)
        return out

    def on_batch(self, samples: Sequence[Mapping[Hashable, Tensor]]) -> list[dict[Hashable, Tensor]]:
        """The same for samples of one shape on one device; off the CPU, all that bend are resampled in one go."""
        deformations = [self._choose_for(sample) for sample in samples]
        together = [n for n, deformation in enumerate(deformations) if deformation.start is None]
        images, labels = self._sorted_keys(samples[0])
        out = [dict(sample) for sample in samples]
        if len(together) < 2 or _on_cpu(samples[0][(images or labels)[0]]):
            together = []
        for n, sample in enumerate(samples):
            if n not in together:
                out[n].update(deform_keys(sample, images, labels, deformations[n]))
            note(out[n], self.record_key, deformations[n], keys=images, label_keys=labels)
        if together:
            for key in (*images, *labels):
                values = torch.stack([_plain(samples[n][key]) for n in together])
                pair = (values[:, :0], values) if key in labels else (values, values[:, :0])
                moved = deform_batch(*pair, [deformations[n] for n in together])[key in labels]
                for n, value in zip(together, moved, strict=True):
                    out[n][key] = value
        return out

    def _sorted_keys(self, data: Mapping[Hashable, Tensor]) -> tuple[list[Hashable], list[Hashable]]:
        """The keys that are there: images, labels."""
        keys = list(self.key_iterator(dict(data)))
        return [k for k in keys if k not in self.label_keys], [k for k in keys if k in self.label_keys]

    def _choose_for(self, data: Mapping[Hashable, Tensor]) -> Deformation:
        first = next(data[key] for key in self.key_iterator(dict(data)))
        spacing = np.ones(3)
        if isinstance(first, MetaTensor):
            spacing = np.linalg.norm(np.asarray(first.affine.cpu())[:3, :3], axis=0)
        box = None
        if self.instance_key is not None and self.R.rand() < self.instance_prob:
            box = draw_box(self.R, instance_map(data, self.instance_key), data.get(self.flags_key))
        return self.choose(first.shape[1:], spacing, box)


def deform_keys(
    data: Mapping[Hashable, Tensor], keys: Sequence[Hashable], label_keys: Sequence[Hashable], deformation: Deformation
) -> dict[Hashable, Tensor]:
    """What a deformation makes of images and labels (C, I, J, K) of a data dictionary: plain tensors (C, D, H, W)."""
    out: dict[Hashable, Tensor] = {}
    for key, label_key in zip_longest(keys, label_keys):  # an image and its labels are pulled in one loop
        some = _plain(data[key if key is not None else label_key])
        none = some.new_zeros(0, *some.shape[1:], dtype=torch.uint8)
        image = none.float() if key is None else _plain(data[key])
        labels = none if label_key is None else _plain(data[label_key])
        moved, moved_labels = warp(image, labels, deformation)
        if key is not None:
            out[key] = moved
        if label_key is not None:
            out[label_key] = moved_labels
    return out


def _on_cpu(value: Tensor) -> bool:
    return value.device.type == "cpu"


def _plain(value: Tensor) -> Tensor:
    return value.as_tensor() if isinstance(value, MetaTensor) else value


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
