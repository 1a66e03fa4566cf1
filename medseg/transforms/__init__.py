"""Transforms that MONAI does not have or that are not sound there; all can be named in any MONAI bundle."""

from medseg.transforms.components import CleanComponentsd
from medseg.transforms.elastic import RandDeformd
from medseg.transforms.instances import CopyPasted, InstancesFromLabeld, RandInstanceCropd, collate_instances
from medseg.transforms.preprocess import RestoreGridd, ToNetworkGridd
from medseg.transforms.reader import VolumeReader, to_metatensor, to_volume

__all__ = [
    "CleanComponentsd",
    "CopyPasted",
    "InstancesFromLabeld",
    "RandDeformd",
    "RandInstanceCropd",
    "RestoreGridd",
    "ToNetworkGridd",
    "VolumeReader",
    "collate_instances",
    "to_metatensor",
    "to_volume",
]
