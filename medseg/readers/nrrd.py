"""NRRD (.nrrd, .nhdr, .seg.nrrd) and MetaImage (.mha, .mhd) into Volumes.

Both are a short text header and raw or compressed numbers, so the header is vetted and the numbers are read by
`payload.py` as for NIfTI: sizes compared before memory is taken, checksums compared, NaN kept, affines in float64.
ITK, the oracle in the tests, opens any file that a detached header names, takes a missing orientation for LPS and
fills missing voxels; none of that may happen here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.geometry import Grid, flip_ras_lps
from medseg.readers.metaimage_header import read_meta_header
from medseg.readers.nrrd_header import NrrdHeader, read_nrrd_header
from medseg.readers.options import ReadOptions
from medseg.readers.payload import (
    drain,
    inflate,
    open_encoded,
    read_array,
    remaining,
    require_bytes,
    require_room,
    require_whole,
    skip,
    translated,
)
from medseg.readers.placement import assumed_affine, shear_decision
from medseg.readers.segments import flatten, is_segmentation
from medseg.readers.sniff import refuse, require_file, sniff
from medseg.readers.values import checked, narrowed
from medseg.volume import Decision, Source, Volume

if TYPE_CHECKING:
    from io import BufferedIOBase


def read_nrrd(path: str | Path, options: ReadOptions | None = None) -> Volume:
    """Read one NRRD or MetaImage file.

    Args:
        path: .nrrd, .nhdr, .seg.nrrd, .mha or .mhd; detached data must lie in the folder of the header, or below.
        options: see `ReadOptions`.

    Returns:
        (I, J, K), or (C, I, J, K) where there is a fourth axis; of a 3D Slicer segmentation one label map
        (I, J, K) with its `labels`.

    Raises:
        InputError: MS-R1xx the header, MS-F1xx the file, its bytes or its values; see docs/errors.
        GeometryError: MS-R110 no orientation, MS-R112 broken geometry, MS-R115 no spacing.
        MemoryLimitError: MS-M110.
    """
    path, options = Path(path), options or ReadOptions()
    kind = _kind(path)
    with translated(path), path.open("rb") as file:
        header = _header(file, path, kind)
        affine, placed = _place(header, path, options)
        files = tuple(_beside(path, name) for name in header.data_files)
        if files:
            flat, extra = _read_detached(files, header, options)
        else:
            flat, extra = _read_rest(file, path, header, options, _count(header))
    flat, narrow = narrowed(flat)
    array = _arranged(flat, header)
    labels, segmented = None, ()
    if is_segmentation(header.pairs):
        array, labels, segmented = flatten(array, header.pairs, path, options.wanted_segments)
    array, valued = checked(array, options, path)
    trailing = (Decision("MS-R202", f"{extra} bytes follow after the last voxel; ignored"),) if extra else ()
    source = Source(
        path=path,
        format=kind,
        files=(path, *files),
        modality=header.pairs.get("DICOM.Modality"),
        decisions=(*placed, *trailing, *narrow, *segmented, *valued),
        details={"dtype": header.dtype.newbyteorder("=").name, "space": header.space},
    )
    return Volume(array, affine, source, labels)


def check_nrrd(path: str | Path, options: ReadOptions | None = None) -> tuple[int, ...]:
    """Refuse what `read_nrrd` would refuse for its header, its place, its data files or its size; no voxel is read.

    Returns:
        The shape: (I, J, K), or (C, I, J, K) where there is a fourth axis that is not layers of a segmentation.

    Raises:
        InputError, GeometryError, MemoryLimitError: as `read_nrrd`.
    """
    path, options = Path(path), options or ReadOptions()
    with translated(path), path.open("rb") as file:
        header = _header(file, path, _kind(path))
        _place(header, path, options)
        files = tuple(_beside(path, name) for name in header.data_files)
        if not files:
            _check_rest(file, path, header, options, _count(header))
    for data in files:
        with translated(data), data.open("rb") as file:
            for _ in range(header.line_skip):
                file.readline()
            _check_rest(file, data, header, options, _share(header, files))
    shape = tuple(header.sizes[a] for a in header.spatial)
    others = [n for a, n in enumerate(header.sizes) if a not in header.spatial and n > 1]
    return shape if not others or is_segmentation(header.pairs) else (others[0], *shape)


def nrrd_grid(path: str | Path, options: ReadOptions | None = None) -> Grid:
    """Where its voxels lie, from its header alone.

    Raises:
        InputError, GeometryError: as `read_nrrd`.
    """
    path = Path(path)
    with translated(path), path.open("rb") as file:
        header = _header(file, path, _kind(path))
    i, j, k = (header.sizes[a] for a in header.spatial)
    return Grid((i, j, k), _place(header, path, options or ReadOptions())[0])


def _kind(path: Path) -> str:
    kind = sniff(path)
    if kind not in ("nrrd", "metaimage"):
        refuse(path, kind)
    return kind


def _header(file: BufferedIOBase, path: Path, kind: str) -> NrrdHeader:
    return (read_nrrd_header if kind == "nrrd" else read_meta_header)(file, path)


def _place(header: NrrdHeader, path: Path, options: ReadOptions) -> tuple[np.ndarray, tuple[Decision, ...]]:
    """The affine in RAS mm, and what had to be decided."""
    i, j, k = (header.sizes[a] for a in header.spatial)
    shape = (i, j, k)
    if header.directions is None or not header.space:
        return _assumed(header, shape, path, options)
    decisions: list[Decision] = []
    affine = np.eye(4)
    affine[:3, :3] = header.directions * header.unit_mm
    if header.origin is None:
        decisions.append(Decision("MS-R214", "the place of its first voxel is not stated; taken as 0, 0, 0 mm"))
    else:
        affine[:3, 3] = header.origin * header.unit_mm
    if header.unit_mm != 1:
        decisions.append(Decision("MS-R212", f"lengths in the file are in units of {header.unit_mm:g} mm; converted"))
    if header.space == "LPS":
        affine = flip_ras_lps(affine)
    elif header.space == "LAS":
        affine = np.diag([-1.0, 1.0, 1.0, 1.0]) @ affine
    return affine, (*decisions, *shear_decision(Grid(shape, affine), "MS-R213"))


def _assumed(
    header: NrrdHeader, shape: tuple[int, int, int], path: Path, options: ReadOptions
) -> tuple[np.ndarray, tuple[Decision, ...]]:
    if options.assume_orientation is None:
        raise GeometryError(
            "MS-R110",
            "it says nothing about orientation: left and right are unknown",
            file=path,
            mend="if you know it, say so: --assume-orientation RAS (or LPS, LAS, ...)",
        )
    spacing = np.array(header.spacings) if header.directions is None else np.linalg.norm(header.directions, axis=0)
    spacing = spacing * header.unit_mm
    if not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise GeometryError(
            "MS-R115",
            "it has no usable spacing",
            file=path,
            mend="write the file again from its source, with its spacing",
        )
    note = f"no orientation in the file; taken as {options.assume_orientation}, centred at 0 mm"
    i, j, k = (float(s) for s in spacing)
    return assumed_affine(shape, (i, j, k), options.assume_orientation), (Decision("MS-R211", note),)


def _arranged(flat: np.ndarray, header: NrrdHeader) -> np.ndarray:
    """(I, J, K), or (C, I, J, K) with the one axis that is not space in front."""
    array = flat.reshape(header.sizes, order="F")
    others = [a for a in range(array.ndim) if a not in header.spatial]
    array = array.transpose(*others, *header.spatial)
    return array.reshape([n for n in array.shape[: len(others)] if n > 1] + list(array.shape[len(others) :]))


def _beside(header: Path, name: str) -> Path:
    """The data file that a header names, which must lie in the header's folder or below it.

    Raises:
        InputError: MS-R106 it lies elsewhere.
    """
    folder = header.parent.resolve()
    data = folder / name
    try:
        inside = data.resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside or data.resolve() == header.resolve():
        raise InputError(
            "MS-R106",
            f"its header points to data in another place ({name})",
            file=header,
            mend="put the data file beside its header and write its bare name into the header",
        )
    require_file(data)
    return data


def _count(header: NrrdHeader) -> int:
    count = 1
    for n in header.sizes:
        count *= n
    return count


def _read_detached(files: tuple[Path, ...], header: NrrdHeader, options: ReadOptions) -> tuple[np.ndarray, int]:
    """The values out of one file, or out of several of equal share."""
    share = _share(header, files)
    parts, extra = [], 0
    for data in files:
        with translated(data), data.open("rb") as file:
            for _ in range(header.line_skip):
                file.readline()
            flat, more = _read_rest(file, data, header, options, share)
        parts.append(flat)
        extra += more
    return (parts[0] if len(parts) == 1 else np.concatenate(parts)), extra


def _share(header: NrrdHeader, files: tuple[Path, ...]) -> int:
    """How many values each data file holds."""
    count = _count(header)
    if count % len(files):
        raise InputError(
            "MS-R102", f"{count} values in {len(files)} data files", file=files[0], mend="write it as one .nrrd file"
        )
    return count // len(files)


def _require_size(file: BufferedIOBase, path: Path, header: NrrdHeader, options: ReadOptions, count: int) -> int:
    """Bytes of `count` values from the position of `file`, after the file's size and the limits allowed them."""
    needed = count * header.dtype.itemsize
    raw = header.encoding == "raw"
    start = file.tell() if header.byte_skip < 0 or not raw else file.tell() + header.byte_skip
    require_bytes(path, start, needed, gzipped=not raw)
    require_room(path, header.sizes, header.dtype, options)
    return needed


def _check_rest(file: BufferedIOBase, path: Path, header: NrrdHeader, options: ReadOptions, count: int) -> None:
    needed = _require_size(file, path, header, options, count)
    if header.encoding == "gzip":
        require_whole(path, max(header.byte_skip, 0) + needed, start=file.tell())


def _read_rest(
    file: BufferedIOBase, path: Path, header: NrrdHeader, options: ReadOptions, count: int
) -> tuple[np.ndarray, int]:
    """`count` values from the position of `file`, and how many bytes follow them."""
    needed = _require_size(file, path, header, options, count)
    if header.encoding == "zlib":
        return inflate(file.read(), path, count, header.dtype)
    if header.byte_skip < 0:
        skip(file, remaining(file) - needed, path)
    with open_encoded(file, header.encoding) as stream:
        skip(stream, header.byte_skip, path)
        return read_array(stream, path, count, header.dtype), drain(stream, path)
