"""Losses that MONAI does not have; all can be named in any MONAI bundle."""

from medseg.losses.detection import DetectionLoss

__all__ = ["DetectionLoss"]
