"""NIfTI-1 and NIfTI-2 into Volumes: .nii, .nii.gz and .hdr/.img pairs, opened by magic, exact to the bit.

Integers without scaling keep their type, so label values are exact; scaled values become float32 (see `values.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError
from medseg.geometry import Grid
from medseg.labels import LabelTable
from medseg.readers.nifti_geometry import place
from medseg.readers.nifti_header import NiftiHeader, header_size, parse_header
from medseg.readers.nifti_labels import labels_in_extensions
from medseg.readers.options import ReadOptions
from medseg.readers.payload import drain, open_stream, read_array, require_bytes, require_room, require_whole, skip
from medseg.readers.sniff import refuse, require_file, sniff
from medseg.readers.values import checked, narrowed, scaled
from medseg.volume import Decision, Source, Volume

#: Header extensions that are looked at for a label table, bytes.
_MAX_EXTENSIONS = 1 << 20

if TYPE_CHECKING:
    from io import BufferedIOBase


def read_nifti(path: str | Path, options: ReadOptions | None = None) -> Volume:
    """Read one NIfTI image.

    Args:
        path: a .nii or .nii.gz file, or either file of an .hdr/.img pair.
        options: see `ReadOptions`.

    Returns:
        (I, J, K), or (C, I, J, K) where the file has a fourth axis, in the file's own axis order; the affine in
        RAS mm. Names that medseg or TotalSegmentator wrote into the header are in `labels`.

    Raises:
        InputError: MS-N1xx the header, MS-F1xx the file, its bytes or its values; see docs/errors.
        GeometryError: MS-N11x its place in space.
        MemoryLimitError: MS-M110.
    """
    options = options or ReadOptions()
    path, gzipped = _opened(path)
    with open_stream(path, gzipped=gzipped) as stream:
        header = read_header(stream, path)
        affine, placed = place(header, path, options)
        if header.paired:
            image = _image_path(path)
            flat, extensions, extra = _read_image(image, header, options)
        else:
            image = path
            flat, extensions, extra = _read_voxels(stream, path, header, options, gzipped=gzipped, at=header.size)
    array, valued = _values(flat, header, options, image)
    rows = labels_in_extensions(extensions, "little" if header.dtype.newbyteorder("<") == header.dtype else "big")
    source = Source(
        path=path,
        format="nifti",
        files=(path, image) if header.paired else (path,),
        description=header.description,
        decisions=(*_name_decision(path, gzipped=gzipped), *placed, *_extra_decision(extra), *valued),
        details={
            "dtype": header.dtype.newbyteorder("=").name,
            "qform_code": header.qform_code,
            "sform_code": header.sform_code,
            "intent_code": header.intent,
        },
    )
    return Volume(array, affine, source, None if rows is None else LabelTable.from_json(rows))


def check_nifti(path: str | Path, options: ReadOptions | None = None) -> tuple[int, ...]:
    """Refuse what `read_nifti` would refuse for its header, its place or its size; no voxel is read.

    Returns:
        The shape: (I, J, K), or (I, J, K, C) where the file has a fourth axis.

    Raises:
        InputError, GeometryError, MemoryLimitError: as `read_nifti`.
    """
    options = options or ReadOptions()
    path, gzipped = _opened(path)
    with open_stream(path, gzipped=gzipped) as stream:
        header = read_header(stream, path)
    place(header, path, options)
    image = path
    if header.paired:
        image = _image_path(path)
        require_file(image)
        gzipped = _is_gzipped(image)
    needed = _require_size(image, header, options, gzipped=gzipped)
    if gzipped:
        require_whole(image, header.offset + needed)
    return header.shape


def nifti_grid(path: str | Path, options: ReadOptions | None = None) -> Grid:
    """Where its voxels lie, from its header alone.

    Raises:
        InputError, GeometryError: as `read_nifti`.
    """
    path, gzipped = _opened(path)
    with open_stream(path, gzipped=gzipped) as stream:
        header = read_header(stream, path)
    i, j, k = header.shape[:3]
    return Grid((i, j, k), place(header, path, options or ReadOptions())[0])


def _opened(path: str | Path) -> tuple[Path, bool]:
    """The file with the header, and whether it is compressed."""
    path = header_path(Path(path))
    kind = sniff(path)
    if kind.removeprefix("gzip-") not in ("nifti", "nifti-pair"):
        refuse(path, kind)
    return path, kind.startswith("gzip-")


def read_header(stream: BufferedIOBase, path: Path) -> NiftiHeader:
    """The header at the start of an open (decompressed) stream.

    Raises:
        InputError: MS-N101 to MS-N106.
    """
    first = stream.read(4)
    return parse_header(first + stream.read(header_size(first) - 4), path)


def header_path(path: Path) -> Path:
    """The .hdr file of an .img file that has one; every other path as it is."""
    for image, header in ((".img", ".hdr"), (".img.gz", ".hdr.gz"), (".img.gz", ".hdr"), (".img", ".hdr.gz")):
        if path.name.lower().endswith(image):
            other = path.with_name(path.name[: -len(image)] + header)
            if other.is_file():
                return other
    return path


def _image_path(header: Path) -> Path:
    stem = header.name.removesuffix(".gz").removesuffix(".hdr")
    for suffix in (".img", ".img.gz", ".IMG"):
        image = header.with_name(stem + suffix)
        if image.exists():
            return image
    raise InputError(
        "MS-N107",
        f"a header whose voxels lie in {stem}.img, which is not beside it",
        file=header,
        mend="put both files of the pair into one folder, with one name",
    )


def _read_image(path: Path, header: NiftiHeader, options: ReadOptions) -> tuple[np.ndarray, bytes, int]:
    require_file(path)
    gzipped = _is_gzipped(path)
    with open_stream(path, gzipped=gzipped) as stream:
        flat, _, extra = _read_voxels(stream, path, header, options, gzipped=gzipped, at=0)
    return flat, b"", extra


def _is_gzipped(image: Path) -> bool:
    """Whether an .img file is compressed: raw voxels may begin like gzip, so its name counts too."""
    with image.open("rb") as file:
        return file.read(2) == b"\x1f\x8b" and image.suffix == ".gz"


def _require_size(path: Path, header: NiftiHeader, options: ReadOptions, *, gzipped: bool) -> int:
    """Bytes of the voxels, after the file's size and the limits allowed them."""
    needed = int(np.prod([int(n) for n in header.shape], dtype=object)) * header.dtype.itemsize
    require_bytes(path, header.offset, needed, gzipped=gzipped)
    require_room(path, header.shape, header.dtype, options)
    return needed


def _read_voxels(
    stream: BufferedIOBase, path: Path, header: NiftiHeader, options: ReadOptions, *, gzipped: bool, at: int
) -> tuple[np.ndarray, bytes, int]:
    """The voxels (1-D, native), the header extensions, and how many bytes follow; `at` bytes were read before."""
    needed = _require_size(path, header, options, gzipped=gzipped)
    extensions = stream.read(min(header.offset - at, _MAX_EXTENSIONS))
    skip(stream, header.offset - at - len(extensions), path)
    flat = read_array(stream, path, needed // header.dtype.itemsize, header.dtype)
    return flat, extensions, drain(stream, path)


def _values(
    flat: np.ndarray, header: NiftiHeader, options: ReadOptions, path: Path
) -> tuple[np.ndarray, tuple[Decision, ...]]:
    """(I, J, K) or (C, I, J, K) with scaling and the NaN policy applied."""
    first: tuple[Decision, ...] = ()
    if header.slope:
        flat = scaled(flat, header.slope, header.inter, path)
    else:
        flat, first = narrowed(flat)
    array = flat.reshape(header.shape, order="F")
    array, second = checked(array, options, path)
    return (np.moveaxis(array, -1, 0) if array.ndim == 4 else array), first + second


def _name_decision(path: Path, *, gzipped: bool) -> tuple[Decision, ...]:
    named = path.name.lower().endswith(".gz")
    if named == gzipped:
        return ()
    what = "named .gz but not compressed" if named else "compressed but not named .gz"
    return (Decision("MS-N201", f"{what}; opened by its content"),)


def _extra_decision(extra: int) -> tuple[Decision, ...]:
    return (Decision("MS-N202", f"{extra} bytes follow after the last voxel; ignored"),) if extra else ()
