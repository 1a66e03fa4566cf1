"""From the image's own grid to the one on which an nnU-Net network sees it, and back.

nnU-Net reads arrays as (k, j, i) of the file, permutes them by `transpose_forward`, crops to the box of voxels that are
not zero, normalises, and only then resizes to the target spacing. The resized grid has the crop's outer edges, so its
voxels are the target spacing only as nearly as a whole number of them allows; `ToNnunetGridd` writes that grid as an
affine, so that everything that goes by affines (uncertainty maps, training, MONAI) lies right.

Back, logits are interpolated linearly and the label is chosen on the image's grid (nnU-Net's export), planes of a thick
axis are chosen and not interpolated, and outside the crop is background.

Worked example: transpose (0, 1, 2): network axis 0 is the file's k, axis 2 its i. 11 voxels of 0.7 mm onto 1 mm become
round(7.7) = 8 voxels of 0.9625 mm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple
from scipy.ndimage import binary_fill_holes

from medseg.errors import UsageError
from medseg.geometry import Grid, Reorientation, reorientation
from medseg.resample import resample_labels
from medseg.resample.stretch import nearest
from medseg.transforms.nnunet.normalise import check, normalise
from medseg.transforms.nnunet.resize import Resizing, new_shape, resize, thick_axis
from medseg.transforms.preprocess import RestoreGridd, checked

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from monai.config import KeysCollection


class ToNnunetGridd(MapTransform):
    """nnU-Net's preprocessing of images, and label maps onto the same grid.

    The first key decides the grid. The input's grid goes into `meta["input_affine"]` and `meta["input_shape"]`, as of
    `ToNetworkGridd`; the crop's into `meta["crop_affine"]` and `meta["crop_shape"]`, the target spacing into
    `meta["target_mm"]`.

    Args:
        keys: (C, I, J, K) MetaTensors with RAS affines.
        spacing_mm: target spacing along the network's axes, mm.
        normalisation: one table a channel, see `normalise.py`.
        transpose: nnU-Net's `transpose_forward`.
        axcodes: patient directions that the file's axes are turned to first; None takes them as they are.
        resizing: arguments of `Resizing`, of images.
        label_keys: those of the keys (or further ones) that hold labels: the label with the greatest trilinear weight.
        allow_missing_keys: skip keys that are absent.

    Raises:
        UsageError: MS-U171 a normalisation is not understood; MS-U172 the transpose is no order of three axes.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing_mm: Sequence[float],
        normalisation: Sequence[Mapping[str, Any]],
        transpose: Sequence[int] = (0, 1, 2),
        axcodes: str | None = None,
        resizing: Mapping[str, Any] | None = None,
        label_keys: KeysCollection = (),
        *,
        allow_missing_keys: bool = False,
    ) -> None:
        self.label_keys = set(ensure_tuple(label_keys))
        super().__init__(tuple(dict.fromkeys((*ensure_tuple(keys), *ensure_tuple(label_keys)))), allow_missing_keys)
        for how in normalisation:
            check(how)
        if sorted(transpose) != [0, 1, 2]:
            raise UsageError("MS-U172", f"the transpose is {list(transpose)}", mend="give an order of the axes 0, 1, 2")
        self.spacing_mm = tuple(float(mm) for mm in spacing_mm)
        self.normalisation = tuple(normalisation)
        i, j, k = (2 - axis for axis in transpose)
        self.order = (i, j, k)
        self.axcodes = axcodes
        self.resizing = Resizing(**(resizing or {}))

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Preprocess every key.

        Raises:
            UsageError: MS-U150 what is no (C, I, J, K) MetaTensor; MS-U173 another number of channels than schemes.
            InputError: MS-F150 values that the normalisation does not take.
        """
        out = dict(data)
        place: _Place | None = None
        for key in self.key_iterator(out):
            image = checked(out[key], key)
            source = Grid(tuple(image.shape[1:]), image.affine.cpu().numpy())  # type: ignore[arg-type]
            array = image.as_tensor().detach().cpu().numpy()
            if place is None:
                place = self._place(array, source)
            put = self._put_labels if key in self.label_keys else self._put_image
            moved = MetaTensor(put(array, source, place).to(image.device), meta=dict(image.meta))
            moved.affine = torch.tensor(place.grid.affine)
            moved.meta.setdefault("input_affine", torch.tensor(source.affine))
            moved.meta.setdefault("input_shape", torch.tensor(source.shape))
            moved.meta["crop_affine"] = torch.tensor(place.crop.affine)
            moved.meta["crop_shape"] = torch.tensor(place.crop.shape)
            moved.meta["target_mm"] = torch.tensor(self.spacing_mm, dtype=torch.float64)
            out[key] = moved
        return out

    def _place(self, array: np.ndarray, source: Grid) -> _Place:
        turn = self._turn(source)
        turned, grid = turn.apply(array), turn.apply_grid(source)
        inside = (turned != 0).any(axis=0)
        box = bounding_box(inside)
        crop = grid.crop(*zip(*((side.start, side.stop) for side in box), strict=True))  # type: ignore[arg-type]
        masked = any(how.get("nonzero") for how in self.normalisation)
        shape = crop.shape if self.resizing.order is None else new_shape(crop.shape, crop.spacing_mm, self.spacing_mm)
        return _Place(turn, box, binary_fill_holes(inside[box]) if masked else None, crop, stretched(crop, shape))

    def _turn(self, source: Grid) -> Reorientation:
        if self.axcodes is None:
            return Reorientation(self.order, (False, False, False))
        first = reorientation(source, self.axcodes)
        order = tuple(first.order[axis] for axis in self.order)
        return Reorientation(order, tuple(first.flips[axis] for axis in self.order))  # type: ignore[arg-type]

    def _put_image(self, array: np.ndarray, source: Grid, place: _Place) -> torch.Tensor:
        del source  # one with the first key's, or its array would not fit
        if len(array) != len(self.normalisation):
            raise UsageError(
                "MS-U173",
                f"an image of {len(array)} channel(s) for {len(self.normalisation)} normalisation(s)",
                mend="give one normalisation a channel",
            )
        thick = thick_axis(place.crop.spacing_mm, self.spacing_mm, self.resizing)
        threads = torch.get_num_threads()
        done = []
        for channel, how in zip(place.turn.apply(array), self.normalisation, strict=True):
            normal = normalise(channel[place.box], how, place.inside)
            done.append(torch.from_numpy(resize(normal, place.grid.shape, self.resizing, thick, threads)))
        return torch.stack(done).contiguous()

    @staticmethod
    def _put_labels(array: np.ndarray, source: Grid, place: _Place) -> torch.Tensor:
        whole = array.astype(np.int32) if array.dtype.kind == "f" else array
        moved = [resample_labels(one, source, place.grid, threads=torch.get_num_threads()) for one in whole]
        return torch.from_numpy(np.stack(moved).astype(array.dtype, copy=False))


class FromNnunetGridd(MapTransform):
    """Logits of an nnU-Net network as a label map on the grid of the input image.

    Args:
        keys: (C, I, J, K) logits, or label maps (1, I, J, K), on the grid of `ref`.
        ref: the image that went through `ToNnunetGridd`.
        resizing: arguments of `Resizing`, of probabilities; `order` is 1, or None where nothing is resized.
        regions: None for classes; else the label value of each sigmoid channel, painted in this order.
        allow_missing_keys: skip keys that are absent.

    Raises:
        UsageError: MS-U171 another order than 1, or another than 0 across a thick axis.
    """

    def __init__(
        self,
        keys: KeysCollection,
        ref: str = "image",
        resizing: Mapping[str, Any] | None = None,
        regions: Sequence[int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.ref = ref
        self.resizing = Resizing(**{"order": 1, **(resizing or {})})
        self.regions = None if regions is None else tuple(regions)
        if self.resizing.order not in (1, None) or self.resizing.order_z not in (0, 1):
            found = f"probabilities resized with order {self.resizing.order}, across planes {self.resizing.order_z}"
            raise UsageError("MS-U171", found, mend="use order 1 (or null), and order_z 0 or 1")

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Restore every key to a (1, I, J, K) label map on the CPU, with the input's affine.

        Raises:
            UsageError: MS-U151 `ref` did not go through `ToNnunetGridd`; else as `RestoreGridd`.
        """
        out = dict(data)
        ref = checked(out.get(self.ref), self.ref)
        if "crop_affine" not in ref.meta:
            raise UsageError(
                "MS-U151",
                f"nothing says on which grid {self.ref!r} was before preprocessing",
                mend="preprocess it with medseg.transforms.ToNnunetGridd, and keep its meta",
            )
        restore = RestoreGridd("pred", "ref", self.regions)
        for key in self.key_iterator(out):
            pred, seen = self._chosen_planes(out[key], ref)
            out[key] = restore({"pred": pred, "ref": seen})["pred"]  # type: ignore[dict-item]
        return out

    def _chosen_planes(self, pred: torch.Tensor, ref: MetaTensor) -> tuple[torch.Tensor, MetaTensor]:
        """The prediction with the crop's own planes along a thick axis, and an empty image on its grid."""
        i, j, k = (int(n) for n in ref.meta["crop_shape"])
        crop = Grid((i, j, k), torch.as_tensor(ref.meta["crop_affine"]).cpu().numpy())
        target_mm = [float(mm) for mm in ref.meta["target_mm"]]
        axis = thick_axis(target_mm, crop.spacing_mm, self.resizing)
        shape = tuple(ref.shape[1:])
        if axis is None or self.resizing.order_z == 1 or shape[axis] == crop.shape[axis] or pred.shape[1:] != shape:
            return pred, ref
        planes = torch.from_numpy(nearest(shape[axis], crop.shape[axis])).to(pred.device)
        grid = stretched(crop, [crop.shape[a] if a == axis else n for a, n in enumerate(shape)])
        seen = MetaTensor(torch.empty(1).expand(1, *grid.shape), meta=dict(ref.meta))
        seen.affine = torch.tensor(grid.affine)
        return torch.as_tensor(pred).index_select(1 + axis, planes), seen


class _Place:
    """Where one case goes: how its axes turn, which box of it is kept, and the grids of the crop and the result."""

    def __init__(
        self, turn: Reorientation, box: tuple[slice, ...], inside: np.ndarray | None, crop: Grid, grid: Grid
    ) -> None:
        self.turn, self.box, self.inside, self.crop, self.grid = turn, box, inside, crop, grid


def bounding_box(inside: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around True; everything where nothing is."""
    box = []
    for axis in range(inside.ndim):
        kept = np.flatnonzero(inside.any(axis=tuple(a for a in range(inside.ndim) if a != axis)))
        box.append(slice(int(kept[0]), int(kept[-1]) + 1) if len(kept) else slice(0, inside.shape[axis]))
    return tuple(box)


def stretched(grid: Grid, shape: Sequence[int]) -> Grid:
    """A grid with another number of voxels between the same outer edges."""
    ratio = np.array(grid.shape) / np.array(shape)
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] * ratio
    affine[:3, 3] = grid.to_world(ratio / 2 - 0.5)
    i, j, k = (int(n) for n in shape)
    return Grid((i, j, k), affine)
