"""What a page carries of a case: as much of the image as its size allows, and a word about what was left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medseg.reports.body import body_of, first_channel
from medseg.reports.numbering import numbered
from medseg.reports.packing import Packed, pack_image, pack_labels, pack_map
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.geometry import Grid
    from medseg.reports.case_view import CaseView

#: A viewer holds about 12 bytes a voxel on the graphics card: 290 MB, which a phone can still give.
MOST_VOXELS = 24_000_000
#: Of an image too large for the page, this much around the structures stays.
AROUND_MM = 40.0
#: The viewer's colour table has 256 places, of which the first is "nothing".
_INDICES = 255


@dataclass(frozen=True, eq=False)
class Stack:
    """Image, structures and maps on one grid.

    Args:
        image: (I, J, K).
        indices: (I, J, K) uint8: `CaseView`'s label values, numbered from 1 in their order.
        maps: key -> (I, J, K) float.
    """

    image: Volume
    indices: np.ndarray
    maps: Mapping[str, np.ndarray]

    def crop(self, box: tuple[slice, ...]) -> Stack:
        """The part in a box."""
        i, j, k = box
        grid = self.image.grid.crop((i.start, j.start, k.start), (i.stop, j.stop, k.stop))
        image = replace(self.image, array=self.image.array[box], affine=grid.affine)
        return Stack(image, self.indices[box], {key: array[box] for key, array in self.maps.items()})

    def shrink(self, factors: tuple[int, int, int]) -> Stack:
        """Blocks of voxels joined: the image's mean, the structure at the middle, the largest uncertainty.

        Nothing vanishes: a structure that no block's middle meets takes every block that it reaches.
        """
        image = self.image
        middle = tuple(slice((f - 1) // 2, None, f) for f in factors)
        blocks = [-(-n // f) for n, f in zip(image.grid.shape, factors, strict=True)]
        padded = [(0, b * f - n) for b, f, n in zip(blocks, factors, image.grid.shape, strict=True)]
        shape = [v for pair in zip(blocks, factors, strict=True) for v in pair]

        def split(array: np.ndarray) -> np.ndarray:
            return np.pad(array, padded, mode="edge").reshape(shape)

        mean = split(image.array).mean(axis=(1, 3, 5), dtype=np.float32)
        mean = mean if image.array.dtype.kind == "f" else np.rint(mean).astype(image.array.dtype)
        indices = np.pad(self.indices, padded, mode="edge")[middle].copy()
        for lost in np.setdiff1d(np.unique(self.indices), np.unique(indices)):
            indices[split(self.indices == lost).any(axis=(1, 3, 5))] = lost
        affine = image.affine.copy()
        affine[:3, 3] = image.grid.to_world((np.array(factors) - 1) / 2)
        affine[:3, :3] = affine[:3, :3] * np.array(factors)
        maps = {key: split(array).max(axis=(1, 3, 5)) for key, array in self.maps.items()}
        return Stack(replace(image, array=mean, affine=affine), indices, maps)


@dataclass(frozen=True, eq=False)
class Carried:
    """What goes onto the page.

    Args:
        stack: as shown.
        values: label value of index 1, 2, ...; an index stands for several values where there are more than 255.
        image: `stack.image`, packed.
        labels: `stack.indices`, packed.
        maps: `stack.maps`, packed.
        notes: what was left out, in words.
    """

    stack: Stack
    values: tuple[int, ...]
    image: Packed
    labels: Packed
    maps: Mapping[str, Packed]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of the packed volumes as text."""
        return sum(-(-len(p.nifti) // 3) * 4 for p in (self.image, self.labels, *self.maps.values()))


def index_of(values: tuple[int, ...]) -> dict[int, int]:
    """Label value -> its index on the page."""
    return {value: n % _INDICES + 1 for n, value in enumerate(values)}


def check_shapes(view: CaseView) -> None:
    """Raise ValueError unless segmentation and maps have the image's shape."""
    shape = view.image.grid.shape
    for what, array in (("segmentation", view.segmentation.array), *view.maps.items()):
        if array.shape != shape:
            msg = f"everything of a case lies on the image's grid {shape}, but {what} is {array.shape}"
            raise ValueError(msg)


def carry(view: CaseView, *, most_bytes: int, most_voxels: int = MOST_VOXELS) -> Carried:
    """Choose what the page shows of a case: the patient without the air around, and if that is still too large only
    the surroundings of the structures, and if need be larger voxels. Every structure stays whole.

    Args:
        view: the case.
        most_bytes: of the packed volumes as text.
        most_voxels: of each volume.

    Raises:
        ValueError: segmentation or maps have another shape than the image.
    """
    check_shapes(view)
    stack, values = _stack(view)
    stack = stack.crop(_joined(body_of(stack.image).box(stack.image.grid.shape), stack.indices, 2))
    limits = most_bytes, most_voxels
    made, excess = _packed(stack, values, (), limits)
    if made is not None:
        return made
    notes: tuple[str, ...] = ()
    near = _joined(None, stack.indices, tuple(int(np.ceil(AROUND_MM / s)) for s in stack.image.spacing_mm))
    part = stack.crop(near)
    if part.indices.size < 0.8 * stack.indices.size:
        stack = part
        notes = (f"To keep this page small it shows only the surroundings of the structures ({AROUND_MM:.0f} mm).",)
        made, excess = _packed(stack, values, notes, limits)
    factors = (1, 1, 1)
    while made is None:
        factors = _coarser(stack.image.grid, factors, excess)
        small = stack.shrink(factors)
        words = (
            f"To keep this page small its voxels are larger than the scan's: {_mm(small)} instead of {_mm(stack)} "
            "(image averaged, largest uncertainty kept). The files beside it are complete."
        )
        final = max(small.image.grid.shape) == 1
        made, excess = _packed(small, values, (*notes, words), (most_bytes, most_voxels) if not final else None)
    return made


def _mm(stack: Stack) -> str:
    return " × ".join(f"{s:.3g}" for s in stack.image.spacing_mm) + " mm"


def _stack(view: CaseView) -> tuple[Stack, tuple[int, ...]]:
    values, numbers = numbered(view.segmentation.array)
    indices = (
        numbers if numbers.dtype == np.uint8 else (((numbers - 1) % _INDICES + 1) * (numbers > 0)).astype(np.uint8)
    )
    image = Volume(first_channel(view.image), view.image.affine, view.image.source)
    return Stack(image, indices, view.maps), values


def _packed(
    stack: Stack, values: tuple[int, ...], notes: tuple[str, ...], limits: tuple[int, int] | None
) -> tuple[Carried | None, float]:
    """The packed stack, and how many times it exceeds the limits of (bytes, voxels); None if it does."""
    if limits and stack.indices.size > limits[1]:
        return None, stack.indices.size / limits[1]
    affine = stack.image.affine
    maps = {key: pack_map(array, affine) for key, array in stack.maps.items()}
    made = Carried(
        stack, values, pack_image(stack.image.array, affine), pack_labels(stack.indices, affine), maps, notes
    )
    excess = made.size / limits[0] if limits else 1.0
    return (made if excess <= 1 else None), excess


def _joined(box: tuple[slice, ...] | None, indices: np.ndarray, margin: int | tuple[int, ...]) -> tuple[slice, ...]:
    """A box that also holds every structure with a margin; without either, the whole array."""
    found = ndimage.find_objects((indices > 0).astype(np.uint8))
    margins = (margin,) * 3 if isinstance(margin, int) else margin
    inner = (
        tuple(
            slice(max(0, s.start - m), min(n, s.stop + m))
            for s, m, n in zip(found[0], margins, indices.shape, strict=True)
        )
        if found
        else None
    )
    if box is None or inner is None:
        return box or inner or tuple(slice(0, n) for n in indices.shape)
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, inner, strict=True))


def _coarser(grid: Grid, factors: tuple[int, int, int], ratio: float) -> tuple[int, int, int]:
    """Larger factors, the finest axis first, until voxels are `ratio` times as few."""
    now = list(factors)
    wanted = np.prod(factors) * ratio
    while np.prod(now) < wanted or tuple(now) == factors:
        sizes = [s * f if f < n else np.inf for s, f, n in zip(grid.spacing_mm, now, grid.shape, strict=True)]
        if not np.isfinite(min(sizes)):
            break
        now[int(np.argmin(sizes))] += 1
    i, j, k = now
    return i, j, k
