"""N4 bias correction (Tustison et al., IEEE TMI 2010), ITK's, as preprocessing of MR images.

The field is smooth, so it is fitted on an image of fewer voxels and evaluated on all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import SimpleITK
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from monai.config import KeysCollection
    from torch import Tensor

#: No axis is shrunk below so many voxels: the fit needs some.
_FEWEST = 16


def log_bias_n4(
    image: np.ndarray,
    spacing_mm: Sequence[float],
    mask: np.ndarray | None = None,
    *,
    shrink: int = 4,
    iterations: Sequence[int] = (50, 50, 50, 50),
    convergence: float = 0.001,
    threads: int | None = None,
) -> np.ndarray:
    """The logarithm of the factor by which an image is shaded.

    Args:
        image: (I, J, K), at least 0 in the mask.
        spacing_mm: along the three axes.
        mask: (I, J, K), not 0 where the field is fitted; None: brighter than Otsu's threshold.
        shrink: voxels that become one along each axis, less where an axis is short.
        iterations: most iterations at each level; each level has twice the control points of the one before.
        convergence: a level ends when the field changes by less.
        threads: at most this many.

    Returns:
        (I, J, K) float32; 0 where there is nothing to fit (an image of one value, an empty mask).
    """
    if image.min() == image.max() or (mask is not None and not mask.any()):
        return np.zeros(image.shape, np.float32)
    whole = SimpleITK.GetImageFromArray(np.ascontiguousarray(image, np.float32))
    whole.SetSpacing([float(mm) for mm in reversed(spacing_mm)])  # ITK counts axes from the fastest
    if mask is None:
        where = SimpleITK.OtsuThreshold(whole, 0, 1, 200)
    else:
        where = SimpleITK.GetImageFromArray(np.ascontiguousarray(mask != 0, np.uint8))
        where.CopyInformation(whole)
    factors = [max(1, min(shrink, n // _FEWEST)) for n in reversed(image.shape)]
    small, small_mask = SimpleITK.Shrink(whole, factors), SimpleITK.Shrink(where, factors)
    if not SimpleITK.GetArrayViewFromImage(small_mask).any():
        small, small_mask = whole, where
    fit = SimpleITK.N4BiasFieldCorrectionImageFilter()
    fit.SetMaximumNumberOfIterations([int(n) for n in iterations])
    fit.SetConvergenceThreshold(convergence)
    if threads is not None:
        fit.SetNumberOfThreads(threads)
    fit.Execute(small, small_mask)
    return SimpleITK.GetArrayFromImage(fit.GetLogBiasFieldAsImage(whole)).astype(np.float32)


class N4Biasd(MapTransform):
    """Take the shading out of MR images by N4: each channel is divided by the field fitted to it.

    It takes seconds, and depends on nothing random: put it into the deterministic part, which is cached, before
    intensities are normalised. The same must stand in inference.json.

    Args:
        keys: (C, I, J, K) images, MetaTensors with affines (a plain tensor counts as 1 mm), at least 0.
        mask_key: (1, I, J, K), not 0 where fields are fitted; None: brighter than Otsu's threshold.
        shrink: voxels that become one along each axis.
        iterations: most iterations at each level.
        convergence: a level ends when the field changes by less.
        allow_missing_keys: skip keys that are absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str | None = None,
        shrink: int = 4,
        iterations: Sequence[int] = (50, 50, 50, 50),
        convergence: float = 0.001,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.shrink = shrink
        self.iterations = tuple(iterations)
        self.convergence = convergence

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Corrected float32 images; raises UsageError MS-U157 for a mask of another shape."""
        out = dict(data)
        for key in self.key_iterator(out):
            image = out[key]
            mask = None if self.mask_key is None else np.asarray(out[self.mask_key].cpu())
            if mask is not None and mask.shape != (1, *image.shape[1:]):
                raise UsageError(
                    "MS-U157", f"the mask {self.mask_key!r} is {mask.shape}, the image {tuple(image.shape)}",
                    mend="give a mask (1, I, J, K) on the image's grid, or none",
                )  # fmt: skip
            out[key] = self._correct(image, None if mask is None else mask[0])
        return out

    def _correct(self, image: Tensor, mask: np.ndarray | None) -> Tensor:
        spacing = [1.0] * 3
        plain = image
        if isinstance(image, MetaTensor):
            spacing = np.linalg.norm(np.asarray(image.affine.cpu())[:3, :3], axis=0).tolist()
            plain = image.as_tensor()
        channels = []
        for channel in plain.float().cpu().numpy():
            field = log_bias_n4(
                channel, spacing, mask, shrink=self.shrink, iterations=self.iterations, convergence=self.convergence,
                threads=torch.get_num_threads(),
            )  # fmt: skip
            channels.append(torch.from_numpy(channel / np.exp(field)))
        corrected = torch.stack(channels).to(image.device)
        return MetaTensor(corrected).copy_meta_from(image) if isinstance(image, MetaTensor) else corrected
