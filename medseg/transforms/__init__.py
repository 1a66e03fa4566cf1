"""Transforms that MONAI does not have or that are not sound there; all can be named in any MONAI bundle."""

from medseg.transforms.components import CleanComponentsd
from medseg.transforms.elastic import RandDeformd
from medseg.transforms.preprocess import RestoreGridd, ToNetworkGridd
from medseg.transforms.reader import VolumeReader, to_metatensor, to_volume

__all__ = [
    "CleanComponentsd",
    "RandDeformd",
    "RestoreGridd",
    "ToNetworkGridd",
    "VolumeReader",
    "to_metatensor",
    "to_volume",
]
