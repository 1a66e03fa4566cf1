"""Data of instances for training: an instance map, and small tables of what its ids mean."""

from medseg.readers.instance_table import BOX_ONLY, IGNORE, STUFF, InstanceTable, read_table, table_beside
from medseg.transforms.instances.collate import collate_instances
from medseg.transforms.instances.copy_paste import CopyPasted
from medseg.transforms.instances.crop import RandInstanceCropd
from medseg.transforms.instances.from_label import InstancesFromLabeld

__all__ = [
    "BOX_ONLY",
    "IGNORE",
    "STUFF",
    "CopyPasted",
    "InstanceTable",
    "InstancesFromLabeld",
    "RandInstanceCropd",
    "collate_instances",
    "read_table",
    "table_beside",
]
