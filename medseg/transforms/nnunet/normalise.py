"""nnU-Net's normalisation schemes (`default_normalization_schemes.py`), one channel at a time, before any resampling.

{"scheme": "zscore"}                      (x - mean) / deviation of the crop
{"scheme": "zscore", "nonzero": true}     of the voxels inside the non-zero region; outside stays as it is
{"scheme": "ct", "low": .., "high": .., "mean": .., "std": ..}      clipped, then numbers of the training cases
{"scheme": "rescale01"}                   (x - min) / (max - min)
{"scheme": "rgb01"}                       x / 255
{"scheme": "none"}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMES = ("zscore", "ct", "rescale01", "rgb01", "none")
_CT = ("low", "high", "mean", "std")
_SMALL = 1e-8


def normalise(image: np.ndarray, how: Mapping[str, Any], inside: np.ndarray | None = None) -> np.ndarray:
    """Normalise one channel.

    Args:
        image: (I, J, K) real.
        how: see the file's docstring.
        inside: (I, J, K) bool non-zero region, for `nonzero`.

    Returns:
        (I, J, K) float32, a new array.

    Raises:
        InputError: MS-F150 "rgb01" of values that are no colours, 0 to 255.
        UsageError: MS-U171 `how` is not understood.
    """
    check(how)
    image = np.array(image, np.float32)
    scheme = how["scheme"]
    if scheme == "zscore":
        where = inside if how.get("nonzero") and inside is not None else ...
        values = image[where]
        if values.size:
            image[where] = (values - values.mean()) / max(values.std(), _SMALL)
    elif scheme == "ct":
        np.clip(image, how["low"], how["high"], out=image)
        image -= how["mean"]
        image /= max(how["std"], _SMALL)
    elif scheme == "rescale01":
        image -= image.min()
        image /= max(image.max(), _SMALL)
    elif scheme == "rgb01":
        low, high = float(image.min()), float(image.max())
        if low < 0 or high > 255:
            raise InputError(
                "MS-F150",
                f"values from {low:g} to {high:g}, but the bundle takes colours from 0 to 255",
                mend="give it images as its training cases were",
            )
        image /= 255
    return image


def check(how: Mapping[str, Any]) -> None:
    """Raises UsageError MS-U171 where a scheme is not understood."""
    scheme = how.get("scheme")
    known = {"zscore": ("nonzero",), "ct": _CT}.get(str(scheme), ())
    missing = [name for name in _CT if name not in how] if scheme == "ct" else []
    extra = sorted(set(how) - {"scheme", *known})
    if scheme not in SCHEMES or missing or extra:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(extra)}" if extra else "is unknown"
        raise UsageError(
            "MS-U171", f"the normalisation {dict(how)} {wrong}", mend=f"use one of the schemes {', '.join(SCHEMES)}"
        )
