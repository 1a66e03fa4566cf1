"""Transforms that MONAI does not have or that are not sound there; all can be named in any MONAI bundle."""

from medseg.transforms.elastic import RandDeformd

__all__ = ["RandDeformd"]
