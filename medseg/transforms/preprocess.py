"""From the image's own grid to the network's, and exactly back.

The network's grid is the image's with its axes turned to the wanted directions and, where the spacing differs,
voxels of the wanted size. `ToNetworkGridd` remembers the image's grid in the meta; `RestoreGridd` puts the
prediction back on it: voxel for voxel where axes were only turned, cropped or padded, else by the fused kernels
of `medseg.resample`. Everything goes by the affines alone, so transforms in between (crop, pad) may come and go.

Worked example: 10 voxels of 0.7 mm onto 1 mm. The image is 7 mm from edge to edge, so the network sees 7 voxels of
exactly 1 mm. With 11 voxels (7.7 mm) it sees 8, which overhang by 0.15 mm at each end: both grids have one centre,
no image voxel lies outside, and no network voxel's centre lies outside the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple

from medseg.errors import UsageError
from medseg.geometry import Grid, reorientation
from medseg.resample import labels_from_logits, resample_image, resample_labels

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from monai.config import KeysCollection

#: A grid whose axes stand this far from right angles (gantry tilt) is resampled to an orthogonal one, degrees.
#: 0.1 degree moves the end of a 100 mm axis by 0.2 mm.
SHEARED_DEG = 0.1
#: Overhang below this part of a voxel is rounding, not anatomy.
_ROUNDING = 1e-3


def network_grid(
    grid: Grid,
    axcodes: str = "RAS",
    spacing_mm: Sequence[float] | float | None = None,
    tolerance: float = 0.01,
) -> Grid:
    """The grid on which the network sees an image.

    Args:
        grid: where the image lies.
        axcodes: patient directions of the network's axes.
        spacing_mm: wanted voxel size along these axes, or one number for all, mm; None keeps the image's.
        tolerance: relative difference of a spacing that is let pass without resampling.

    Returns:
        `grid` with its axes turned, if its spacing will do and its axes stand at right angles. Else voxels of
        `spacing_mm` on the nearest orthogonal axes, as few as cover the image, around the image's centre.
    """
    turned = reorientation(grid, axcodes).apply_grid(grid)
    have = np.array(turned.spacing_mm)
    want = have if spacing_mm is None else np.broadcast_to(np.asarray(spacing_mm, np.float64), 3)
    sheared = turned.shear_deg > SHEARED_DEG
    if not sheared and (np.abs(have / want - 1) <= tolerance).all():
        return turned
    axes = turned.affine[:3, :3] / have
    if sheared:  # the nearest rotation (and mirroring): the orthogonal factor of the polar decomposition
        left, _, right = np.linalg.svd(axes)
        axes = left @ right
    edges = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in turned.shape], indexing="ij")).reshape(3, 8).T
    edges_mm = turned.to_world(edges) @ np.linalg.inv(axes).T
    extent_mm = np.ptp(edges_mm, axis=0)
    shape = np.maximum(np.ceil(extent_mm / want - _ROUNDING), 1).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = axes * want
    centre_mm = turned.to_world((np.array(turned.shape) - 1) / 2)
    affine[:3, 3] = centre_mm - affine[:3, :3] @ ((shape - 1) / 2)
    i, j, k = (int(n) for n in shape)
    return Grid((i, j, k), affine)


class ToNetworkGridd(MapTransform):
    """Turn and resample images (and label maps) to the grid on which the network sees them.

    The first key present decides the grid; the others are put onto the same one, wherever their affine says they
    lie. The input's grid goes into `meta["input_affine"]` (4, 4) and `meta["input_shape"]` (3,), both tensors.

    Args:
        keys: (C, I, J, K) MetaTensors with RAS affines.
        axcodes: patient directions of the network's axes.
        spacing_mm: voxel size along these axes (or one number), mm; None keeps the image's.
        label_keys: those of the keys (or further ones) that hold labels: the label with the greatest trilinear
            weight is taken, and the dtype stays.
        tolerance: relative difference of a spacing that is let pass without resampling.
        order: "linear" or "cubic", for images.
        fill: value of voxels outside the image, which a tilted image leaves at the corners; None: its smallest.
        allow_missing_keys: skip keys that are absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        axcodes: str = "RAS",
        spacing_mm: Sequence[float] | float | None = None,
        label_keys: KeysCollection = (),
        *,
        tolerance: float = 0.01,
        order: Literal["linear", "cubic"] = "linear",
        fill: float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        self.label_keys = set(ensure_tuple(label_keys))
        super().__init__(tuple(dict.fromkeys((*ensure_tuple(keys), *ensure_tuple(label_keys)))), allow_missing_keys)
        self.axcodes = axcodes
        self.spacing_mm = spacing_mm
        self.tolerance = tolerance
        self.order: Literal["linear", "cubic"] = order
        self.fill = fill

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Resample every key; raises UsageError MS-U150 for what is no (C, I, J, K) MetaTensor."""
        out = dict(data)
        target = None
        for key in self.key_iterator(out):
            image = checked(out[key], key)
            source = _grid(image)
            target = target or network_grid(source, self.axcodes, self.spacing_mm, self.tolerance)
            put = _put_labels if key in self.label_keys else self._put_image
            moved = _like(put(image, source, target).to(image.device), image, target)
            moved.meta.setdefault("input_affine", torch.tensor(source.affine))
            moved.meta.setdefault("input_shape", torch.tensor(source.shape))
            out[key] = moved
        return out

    def _put_image(self, image: MetaTensor, source: Grid, target: Grid) -> torch.Tensor:
        # Turned first, into one order in memory: sums are then rounded alike, and however a file stores its axes,
        # the network sees the same bits.
        turn = reorientation(source, self.axcodes)
        array = [np.asfortranarray(channel) for channel in turn.apply(_array(image))]
        source = turn.apply_grid(source)
        threads = torch.get_num_threads()
        channels = [
            resample_image(
                channel,
                source,
                target,
                fill=float(channel.min()) if self.fill is None else self.fill,
                order=self.order,
                threads=threads,
            )
            for channel in array
        ]
        return _stack(channels)


class RestoreGridd(MapTransform):
    """Put predictions back on the grid of the input image, exactly where axes were only turned, cropped or padded.

    What lies outside the network's grid becomes background (0).

    Args:
        keys: (1, I, J, K) label maps, or (C, I, J, K) logits, on the grid of `ref`. Logits become labels on the
            way, without logits at full resolution.
        ref: the image that went through `ToNetworkGridd` (and any crop or pad that keeps its affine right).
        regions: None for classes that exclude each other; else the label value of each sigmoid channel, painted
            in this order where the logit is above 0. Label maps of an integer dtype are taken as they are.
        allow_missing_keys: skip keys that are absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        ref: str = "image",
        regions: Sequence[int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.ref = ref
        self.regions = None if regions is None else tuple(regions)

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Restore every key to a (1, I, J, K) label map on the CPU, with the input's affine.

        Raises:
            UsageError: MS-U150 for what is no (C, I, J, K) MetaTensor, MS-U151 when `ref` did not go through
                `ToNetworkGridd`, MS-U152 when a prediction does not have the shape of `ref`, MS-U153 for label
                maps with values that are not whole.
        """
        out = dict(data)
        ref = checked(out.get(self.ref), self.ref)
        source = _grid(ref)
        if "input_affine" not in ref.meta or "input_shape" not in ref.meta:
            raise UsageError(
                "MS-U151",
                f"nothing says on which grid {self.ref!r} was before preprocessing",
                mend="preprocess it with medseg.transforms.ToNetworkGridd, and keep its meta",
            )
        i, j, k = (int(n) for n in ref.meta["input_shape"])
        target = Grid((i, j, k), torch.as_tensor(ref.meta["input_affine"]).cpu().numpy())
        for key in self.key_iterator(out):
            out[key] = self._restore(out[key], key, source, target, ref)
        return out

    def _restore(self, pred: torch.Tensor, key: Hashable, source: Grid, target: Grid, ref: MetaTensor) -> MetaTensor:
        if pred.ndim != 4 or tuple(pred.shape[1:]) != source.shape:
            raise UsageError(
                "MS-U152",
                f"{key!r} is {tuple(pred.shape)}, but {self.ref!r} lies on a grid of {source.shape}",
                mend="give (C, I, J, K) predictions on the grid of the preprocessed image, decollated",
            )
        logits = len(pred) > 1 or (self.regions is not None and pred.is_floating_point())
        if logits:
            labels = labels_from_logits(
                _array(pred.float()), source, target, regions=self.regions, threads=torch.get_num_threads()
            )
            restored = _stack([labels])
        else:
            restored = _put_labels(pred, source, target)
        if restored.is_floating_point() or restored.dtype == torch.bool:
            restored = restored.to(torch.uint8 if restored.max() <= np.iinfo(np.uint8).max else torch.int32)
        moved = _like(restored, ref, target)
        for name in ("input_affine", "input_shape"):
            moved.meta.pop(name)
        moved.meta["original_affine"] = moved.affine.clone()
        moved.meta["spatial_shape"] = torch.tensor(target.shape)
        return moved


def checked(image: torch.Tensor | None, key: Hashable) -> MetaTensor:
    """The image, if it is a (C, I, J, K) MetaTensor; raises UsageError MS-U150."""
    if isinstance(image, MetaTensor) and image.ndim == 4 and image.affine.shape == (4, 4):
        return image
    found = type(image).__name__ if image is None else f"{type(image).__name__} {tuple(image.shape)}"
    raise UsageError(
        "MS-U150",
        f"{key!r} must be a MetaTensor (C, I, J, K) with a 4x4 affine, got {found}",
        mend="load it with LoadImaged(ensure_channel_first=True), and decollate batches first",
    )


def _grid(image: MetaTensor) -> Grid:
    i, j, k = image.shape[1:]
    return Grid((i, j, k), image.affine.cpu().numpy())


def _array(image: torch.Tensor) -> np.ndarray:
    plain = image.as_tensor() if isinstance(image, MetaTensor) else image
    return plain.detach().cpu().numpy()


def _put_labels(image: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
    """Labels (C, I, J, K) of any dtype onto another grid; the dtype stays."""
    array = _array(image)
    if array.dtype.kind == "f":
        whole = array.astype(np.int32)
        if (whole != array).any():
            raise UsageError(
                "MS-U153",
                "a label map holds values that are not whole numbers",
                mend="name images in `keys` only, or turn probabilities into labels first (AsDiscreted)",
            )
        array = whole
    threads = torch.get_num_threads()
    moved = _stack([resample_labels(channel, source, target, threads=threads) for channel in array])
    return moved.to(image.dtype)


def _stack(channels: list[np.ndarray]) -> torch.Tensor:
    """(C, I, J, K) tensor in C order, as networks want it."""
    return torch.stack([torch.from_numpy(channel) for channel in channels]).contiguous()


def _like(tensor: torch.Tensor, image: MetaTensor, grid: Grid) -> MetaTensor:
    """The tensor with the image's meta, on `grid`."""
    moved = MetaTensor(tensor, meta=dict(image.meta))
    moved.affine = torch.tensor(grid.affine)
    return moved
