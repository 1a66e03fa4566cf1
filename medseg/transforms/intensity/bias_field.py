"""Bias field: the smooth shading of MR images, a factor whose logarithm is a cubic B-spline (as in N4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medseg.transforms.intensity.base import RandIntensityd
from medseg.transforms.spline import spline_basis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from monai.config import KeysCollection
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class BiasField:
    """x -> x * exp(spline).

    Args:
        control: (m, m, m) float32 logarithms of the factor at the control points; it is nowhere above their greatest.
    """

    control: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"control": self.control.tolist()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> BiasField:
        """What `to_json` wrote."""
        return cls(np.array(row["control"], np.float32))


def shade(channel: Tensor, choice: BiasField) -> Tensor:
    """(D, H, W) times the bias field. Values must be as the scanner gave them or scaled, with air at 0."""
    return bias_of(choice, channel.shape, channel.device).exp_().mul_(channel)


def bias_of(choice: BiasField, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """(D, H, W) logarithm of the factor."""
    field = torch.from_numpy(choice.control).to(device)
    for n in reversed(shape):  # the last axis first: it grows while the others are small
        field = torch.einsum("nc,abc->nab", spline_basis(n, field.shape[-1]).to(device), field)
    return field


class RandBiasd(RandIntensityd):
    """Shade images at random, in a quarter of the time of MONAI's `RandBiasFieldd`, and brighter as often as darker.

    Put it before intensities are normalised to mean 0: a factor acts on the distance from 0.

    Args:
        keys: images (C, D, H, W).
        prob: probability of changing an image.
        strength: largest logarithm of the factor at a control point; 0.7 is a factor of 2. In the image it is about
            half of that.
        control: control points along each axis, at least 4.
        **kwargs: of `RandIntensityd`.
    """

    apply = staticmethod(shade)

    def __init__(
        self, keys: KeysCollection, prob: float = 0.15, strength: float = 0.7, control: int = 4, **kwargs: Any
    ) -> None:
        super().__init__(keys, prob, **kwargs)
        self.strength = strength
        self.control = control

    def draw(self) -> BiasField:
        """Logarithms at the control points, of mean 0: the image as a whole stays as bright."""
        control = self.R.uniform(-1, 1, (self.control,) * 3)
        control -= control.mean()
        control *= self.R.uniform(0, self.strength) / np.abs(control).max()
        return BiasField(control.astype(np.float32))
