"""Volumes as MONAI's MetaTensors and back, and medseg's readers inside `LoadImaged`.

MONAI's default readers accept DICOM folders with missing slices or two series without a word. `VolumeReader` puts
medseg's readers in their place, in any bundle:

    {"_target_": "LoadImaged", "keys": "image", "reader": "medseg.transforms.VolumeReader",
     "ensure_channel_first": true, "image_only": true}

The meta holds tensors, numbers and text only, so that it survives collation and MONAI's `PersistentDataset`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data import ImageReader, MetaTensor

from medseg.errors import GeometryError, UsageError
from medseg.geometry import same_space
from medseg.readers.options import ReadOptions
from medseg.volume import Source, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monai.config import PathLike


class VolumeReader(ImageReader):
    """A MONAI image reader for every format that medseg reads: NIfTI, NRRD, MetaImage, DICOM files and folders.

    Several paths become the channels of one image; they must lie in one space. What cannot be read with certainty
    is refused with medseg's own error (MONAI shows it at the end of its own).

    Args:
        **options: fields of `medseg.readers.options.ReadOptions`, such as `series="4"`; `LoadImaged` hands on what
            it does not know itself.
    """

    def __init__(self, **options) -> None:
        super().__init__()
        self.options = ReadOptions(**options)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether every path exists: readers go by the first bytes of a file, not by its name."""
        return all(Path(path).exists() for path in _paths(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs) -> Volume:
        """Read one path, or several as channels.

        Args:
            data: file or folder, or several of them.
            **kwargs: options that replace those of the constructor.

        Raises:
            InputError: a path cannot be read (see `medseg.read`), or the channels (MS-G150) lie in several spaces.
        """
        from medseg.readers.open import read

        options = ReadOptions(**{**vars(self.options), **kwargs})
        paths = _paths(data)
        volumes = [read(path, options) for path in paths]
        first = volumes[0]
        if len(volumes) == 1:
            return first
        for path, volume in zip(paths, volumes, strict=True):
            if not same_space(volume.grid, first.grid) or volume.array.ndim != 3:
                raise GeometryError(
                    "MS-G150",
                    f"this channel is {volume.array.shape} voxels of {_mm(volume)} mm, "
                    f"the first one {first.array.shape} of {_mm(first)} mm, or lies elsewhere",
                    file=path,
                    mend="resample the channels to one grid, or give them to `medseg predict`, which does so",
                )
        files = tuple(file for volume in volumes for file in volume.source.files)
        return Volume(
            np.stack([volume.array for volume in volumes]),
            first.affine,
            Source(path=first.source.path, format=first.source.format, files=files, modality=first.source.modality),
        )

    def get_data(self, img: Volume) -> tuple[np.ndarray, dict]:
        """The array of a volume, (I, J, K) or (C, I, J, K), and MONAI's meta."""
        return img.array, _meta(img)


def to_metatensor(volume: Volume) -> MetaTensor:
    """A volume as MONAI sees it: (C, I, J, K) float32, float64 RAS affine, meta as `VolumeReader` gives it."""
    array = volume.array if volume.array.ndim == 4 else volume.array[None]
    tensor = torch.from_numpy(np.array(array, np.float32))
    image = MetaTensor(tensor, meta=_meta(volume))
    image.affine = torch.tensor(volume.affine, dtype=torch.float64)
    image.meta["original_channel_dim"] = 0
    return image


def to_volume(image: MetaTensor) -> Volume:
    """An unbatched (C, I, J, K) MetaTensor as a volume; a single channel becomes (I, J, K).

    Raises:
        UsageError: MS-U150, the tensor has another number of axes or no affine.
    """
    if not isinstance(image, MetaTensor) or image.ndim != 4 or image.affine.shape != (4, 4):
        raise UsageError(
            "MS-U150",
            f"a MetaTensor (C, I, J, K) with a 4x4 affine is needed, got {type(image).__name__} {tuple(image.shape)}",
            mend="load it with LoadImaged(ensure_channel_first=True), and decollate batches first",
        )
    array = image.as_tensor().detach().cpu().numpy()
    name = image.meta.get("filename_or_obj")
    source = Source(path=Path(str(name)) if name else None)
    return Volume(array[0] if len(array) == 1 else array, image.affine.cpu().numpy(), source)


def _meta(volume: Volume) -> dict:
    affine = torch.tensor(volume.affine, dtype=torch.float64)
    return {
        "affine": affine,
        "original_affine": affine.clone(),
        "space": "RAS",  # MONAI's Orientation would flip again where this said LPS
        "spatial_shape": torch.tensor(volume.grid.shape),
        "original_channel_dim": math.nan if volume.array.ndim == 3 else 0,  # NaN is MONAI's "no channel axis"
        "filename_or_obj": "" if volume.source.path is None else str(volume.source.path),
    }


def _paths(data: Sequence[PathLike] | PathLike) -> list[Path]:
    return [Path(data)] if isinstance(data, (str, Path)) else [Path(path) for path in data]  # type: ignore[union-attr]


def _mm(volume: Volume) -> str:
    return " x ".join(f"{s:.4g}" for s in volume.spacing_mm)
