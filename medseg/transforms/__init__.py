"""Transforms that MONAI does not have, that are not sound there, or several times as fast; any MONAI bundle can name them.

Random ones choose (seeded, a frozen dataclass, noted as plain data under `record_key`) apart from applying (a pure
function), run on the device of their tensors, and skip what did not come up. Of MONAI's, these are sound and fast enough
and have no twin here: RandScaleIntensityd and RandShiftIntensityd (brightness), RandFlipd where no label has a side,
the crops by label, and all of EnsureTyped, Compose, OneOf.

Invertible, as MONAI understands it: RandMirrord. Not invertible: RandDeformd (what leaves the patch is gone), all
changes of intensity, N4Biasd. ToNetworkGridd has its inverse in RestoreGridd, ToNnunetGridd in FromNnunetGridd.
"""

from medseg.transforms.batch import AugmentBatch
from medseg.transforms.components import CleanComponentsd
from medseg.transforms.distance_maps import DistanceMapsd
from medseg.transforms.elastic import RandDeformd
from medseg.transforms.ignored import IgnoreVoxelsd
from medseg.transforms.instances import CopyPasted, InstancesFromLabeld, RandInstanceCropd, collate_instances
from medseg.transforms.intensity import RandBiasd, RandBlurd, RandContrastd, RandGammad, RandLowResolutiond, RandNoised
from medseg.transforms.labelled_classes import LabelledClassesd
from medseg.transforms.mirror import RandMirrord
from medseg.transforms.n4 import N4Biasd
from medseg.transforms.nnunet import FromNnunetGridd, ToNnunetGridd
from medseg.transforms.overview import Overviewd
from medseg.transforms.preprocess import RestoreGridd, ToNetworkGridd
from medseg.transforms.reader import VolumeReader, to_metatensor, to_volume
from medseg.transforms.regions import RegionsFromLabeld
from medseg.transforms.replay import replay
from medseg.transforms.shares import SharesFromAnnotatorsd

__all__ = [
    "AugmentBatch",
    "CleanComponentsd",
    "CopyPasted",
    "DistanceMapsd",
    "FromNnunetGridd",
    "IgnoreVoxelsd",
    "InstancesFromLabeld",
    "LabelledClassesd",
    "N4Biasd",
    "Overviewd",
    "RandBiasd",
    "RandBlurd",
    "RandContrastd",
    "RandDeformd",
    "RandGammad",
    "RandInstanceCropd",
    "RandLowResolutiond",
    "RandMirrord",
    "RandNoised",
    "RegionsFromLabeld",
    "RestoreGridd",
    "SharesFromAnnotatorsd",
    "ToNetworkGridd",
    "ToNnunetGridd",
    "VolumeReader",
    "collate_instances",
    "replay",
    "to_metatensor",
    "to_volume",
]
