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

from medseg.errors import UsageError
from medseg.readers.cases import Case, load_case
from medseg.readers.open import read
from medseg.readers.options import ReadOptions
from medseg.volume import Source, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monai.config import PathLike


class VolumeReader(ImageReader):
    """A MONAI image reader for every format that medseg reads: NIfTI, NRRD, MetaImage, DICOM files and folders.

    Several paths become the channels of one image. What cannot be read with certainty is refused for good: `read`
    keeps the error and `get_data` raises it, because `LoadImage` answers an error in `read` by trying MONAI's own
    readers, which would accept a DICOM folder with missing slices.

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

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs) -> Volume | Exception:
        """Read one path, or several as channels.

        Args:
            data: file or folder, or several of them.
            **kwargs: options that replace those of the constructor.

        Returns:
            The volume as read, several paths stacked on the grid of the first, as `medseg predict` does; or why it
            cannot be read, for `get_data` to raise.
        """
        options = ReadOptions(**{**vars(self.options), **kwargs})
        paths = _paths(data)
        try:
            if len(paths) == 1:
                return read(paths[0], options)
            names = tuple(f"{n}" for n in range(len(paths)))
            return load_case(Case(name=paths[0].name, images=tuple(paths), options=options), names)
        except Exception as error:  # noqa: BLE001  not swallowed: get_data raises it
            return error

    def get_data(self, img: Volume | Exception) -> tuple[np.ndarray, dict]:
        """The array of a volume, (I, J, K) or (C, I, J, K), and MONAI's meta.

        Raises:
            InputError: the paths cannot be read, or the channels cannot be put onto one grid.
        """
        if isinstance(img, Exception):
            raise img
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
