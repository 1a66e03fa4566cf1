"""The label map of a case: whole numbers, on the grid of its image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.geometry import Grid, corner_distance_mm, lattice_offset, same_space
from medseg.readers.cases.space import overlap, turn_onto
from medseg.readers.dicom.headers import read_header
from medseg.readers.dicom.objects import kind_of
from medseg.readers.dicom.rtstruct import read_rtstruct
from medseg.readers.open import read
from medseg.readers.sniff import sniff
from medseg.volume import Decision, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.readers.cases.case import Case
    from medseg.readers.options import ReadOptions

#: So many values stand in one message.
_SHOWN = 5


def load_label(case: Case, image: Volume) -> Volume:
    """Read the label map of a case onto the grid of its image.

    The same space in another axis order is turned, and the same lattice with another extent (as 3D Slicer saves) is
    pasted, both without touching a value. Nothing is resampled.

    Args:
        case: from `find_cases`.
        image: from `load_case`.

    Returns:
        (I, J, K) of the smallest unsigned integer type that holds its values, on `image`'s grid; `labels` names
        them when the file does.

    Raises:
        InputError: MS-C110 the case has no label map, MS-C111 values that are no whole numbers, MS-C112 negative
            values, MS-C113 more than one channel, and what the readers raise.
        GeometryError: MS-G102 it lies elsewhere than the image, MS-G103 it lies on the image's lattice and outside it.
    """
    if case.label is None:
        raise InputError(
            "MS-C110",
            f"case {case.name!r} has no label map",
            file=case.images[0] if case.images else None,
            mend="put it beside the image as <image>_seg, into labelsTr, or into the label column of a list",
        )
    label = read_label(case.label, image, replace(case.options, series=None, nonfinite="refuse"))
    label = replace(label, array=whole_numbers(label.array, case.label))
    return on_grid_of(image.grid, label, case.label)


def read_label(path: Path, image: Volume | None, options: ReadOptions) -> Volume:
    """A label map of any format as its file holds it; an RTSTRUCT on the grid of `image`."""
    if path.is_file() and sniff(path) == "dicom":
        header = read_header(path)
        if header is not None and kind_of(header) == "dicom-rtstruct":
            return read_rtstruct(path, image, options)
    return read(path, options)


def whole_numbers(array: np.ndarray, path: Path) -> np.ndarray:
    """A label map as (I, J, K) of the smallest unsigned integer type, exactly.

    Raises:
        InputError: MS-C111 to MS-C113.
    """
    if array.ndim == 4 and len(array) != 1:
        what = f"a label map has one value a voxel, this file holds {len(array)} volumes"
        raise InputError("MS-C113", what, file=path, mend="name the volume with the labels, or merge them into one")
    array = array[0] if array.ndim == 4 else array
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        broken = array[array != np.rint(array)]
        if broken.size:
            raise InputError(
                "MS-C111",
                f"label values are whole numbers, found {_counted(broken)}",
                file=path,
                mend="export the labels again without interpolation (nearest neighbour), not probabilities",
            )
        array = array.astype(np.int64)
    if array.size and int(array.min()) < 0:
        raise InputError(
            "MS-C112",
            f"label values start at 0 (background), found {_counted(array[array < 0])}",
            file=path,
            mend="give these voxels a label of their own, or 0",
        )
    return array.astype(np.min_scalar_type(int(array.max(initial=0))), copy=False)


def _counted(values: np.ndarray) -> str:
    found, counts = np.unique(values, return_counts=True)
    shown = [f"{v:.6g} ({n} voxels)" for v, n in zip(found[:_SHOWN], counts[:_SHOWN], strict=True)]
    more = f" and {len(found) - _SHOWN} more values" if len(found) > _SHOWN else ""
    return ", ".join(shown) + more


def on_grid_of(image: Grid, label: Volume, path: Path) -> Volume:
    """A label map on the image's grid: as it is, turned by right angles, or pasted; never resampled.

    Raises:
        GeometryError: MS-G102, MS-G103.
    """
    if same_space(label.grid, image):
        return replace(label, affine=image.affine)
    notes: list[Decision] = []
    turn = turn_onto(label.grid, image)
    turned = None if turn is None else turn.apply_grid(label.grid)
    offset = None if turned is None else lattice_offset(image, turned)
    if turn is None or turned is None or offset is None:
        raise _elsewhere(image, label.grid, turned, path)
    if turn.order != (0, 1, 2) or any(turn.flips):
        text = f"label map: axes turned from {label.grid.axcodes} to those of the image, {image.axcodes}"
        notes.append(Decision("MS-G205", text, warning=False))
    array = turn.apply(label.array)
    if offset != (0, 0, 0) or turned.shape != image.shape:
        array, note = _pasted(array, offset, image, path)
        notes.append(note)
    elif not same_space(turned, image):
        text = f"label map: {corner_distance_mm(turned, image):.2g} mm beside the image, taken as rounding"
        notes.append(Decision("MS-G208", text, warning=False))
    return replace(label, array=np.ascontiguousarray(array), affine=image.affine).with_decisions(*notes)


def _pasted(array: np.ndarray, offset: tuple[int, int, int], image: Grid, path: Path) -> tuple[np.ndarray, Decision]:
    start = np.maximum(offset, 0)
    stop = np.minimum(np.add(offset, array.shape), image.shape)
    if (stop <= start).any():
        raise GeometryError(
            "MS-G103",
            f"the label map lies on the image's lattice, wholly outside the image (offset {offset} voxels)",
            file=path,
            mend="name the image that it was drawn on",
        )
    inner = tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, offset, strict=True))
    out = np.zeros(image.shape, array.dtype)
    out[tuple(map(slice, start, stop))] = array[inner]
    lost = int(np.count_nonzero(array)) - int(np.count_nonzero(out))
    extent = " x ".join(map(str, array.shape))
    text = f"label map: its {extent} voxels lie on the image's lattice at {offset} and were pasted"
    if lost:
        return out, Decision("MS-G207", f"{text}; {lost} labelled voxels lie outside the image and were left out")
    return out, Decision("MS-G204", text, warning=False)


def _elsewhere(image: Grid, label: Grid, turned: Grid | None, path: Path) -> GeometryError:
    near = turned if turned is not None else label
    if near.shape == image.shape:
        found = f"its corners lie {corner_distance_mm(near, image):.4g} mm from the image's"
    else:
        shapes = [" x ".join(map(str, g.shape)) for g in (label, image)]
        spacings = [" x ".join(f"{s:.4g}" for s in g.spacing_mm) for g in (label, image)]
        found = f"it has {shapes[0]} voxels of {spacings[0]} mm, the image {shapes[1]} of {spacings[1]} mm, on another lattice"
    return GeometryError(
        "MS-G102",
        f"the label map does not lie on its image: {found} ({100 * overlap(image, label):.0f} % overlap)",
        file=path,
        mend="export it on the grid of this image (3D Slicer: Resample Scalar/Label Volume with the image as reference, nearest neighbour)",
    )
