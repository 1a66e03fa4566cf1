"""3D Slicer's sequence file (.seq.nrrd): many volumes of one grid, which Slicer plays like a film.

Format: slicerio's `create_sequence`; the volumes are the last, slowest axis, so they are written as they come.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.writers.nrrd import nrrd_head, write_packed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def write_sequence(
    path: str | Path, samples: Iterable[np.ndarray], affine: np.ndarray, *, count: int, index_name: str = "sample"
) -> None:
    """Write volumes as one sequence, atomically and read back, with one of them in memory at a time.

    Args:
        path: ends in .seq.nrrd.
        samples: (I, J, K) label or float maps of one shape and type. bool becomes uint8, float16 and float64 become
            float32.
        affine: (4, 4) voxel index -> RAS mm, of all of them.
        count: how many there are, at least 1: the header says so before the first is written.
        index_name: what numbers them, a plain word.

    Raises:
        OutputError: MS-O101 to MS-O106, see `atomic_write`.
        ValueError: another number of samples than `count`, other shapes or types, 64-bit integers, NaN or infinity.
    """
    path = Path(path)
    if not path.name.lower().endswith(".seq.nrrd"):
        msg = f"a 3D Slicer sequence ends in .seq.nrrd, got {path.name!r}"
        raise ValueError(msg)
    coming = iter(samples)
    first = next(coming, None)
    if first is None or count < 1:
        msg = f"a sequence holds at least one volume, got {count if first is not None else 0}"
        raise ValueError(msg)
    if first.ndim != 3 or 0 in first.shape:
        msg = f"each sample is (I, J, K) and not empty, got {first.shape}"
        raise ValueError(msg)
    dtype = {"b": np.dtype("u1"), "f": np.dtype("<f4")}.get(first.dtype.kind, first.dtype.newbyteorder("<"))
    pairs = {
        "axis 3 index type": "numeric",
        "axis 3 index values": " ".join(str(n) for n in range(count)),
    }
    head = nrrd_head(dtype, first.shape, affine, pairs, volumes=count, index_name=index_name)
    write_packed(path, head, _blocks(first, coming, dtype, count))


def _blocks(first: np.ndarray, rest: Iterator[np.ndarray], dtype: np.dtype, count: int) -> Iterator[np.ndarray]:
    number, sample = 0, first
    while sample is not None:
        if sample.shape != first.shape or sample.dtype != first.dtype:
            msg = f"sample {number} is {sample.dtype} {sample.shape}, the first is {first.dtype} {first.shape}"
            raise ValueError(msg)
        with np.errstate(over="ignore"):
            flat = sample.reshape(-1, order="F").astype(dtype)
        if dtype.kind == "f" and not np.isfinite(flat).all():
            msg = f"sample {number} holds NaN, infinity or numbers beyond float32: such voxels are not written"
            raise ValueError(msg)
        yield flat
        number, sample = number + 1, next(rest, None)
        if (sample is None) != (number == count):
            msg = f"{count} samples were announced, {'more' if number >= count else number} came"
            raise ValueError(msg)
