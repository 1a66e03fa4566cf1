"""Losses that MONAI does not have or that are not sound there; all can be named in any MONAI bundle.

Each takes logits (B, C, ...) and a label map (B, 1, ...), or one-hot, soft or overlapping labels (B, C, ...); see
`pair`. MONAI's DiceLoss, TverskyLoss and DeepSupervisionLoss are sound and can be named beside them.
"""

from medseg.losses.boundary import BoundaryLoss
from medseg.losses.cldice import ClDiceLoss
from medseg.losses.compound import CompoundLoss
from medseg.losses.detection import DetectionLoss
from medseg.losses.hausdorff import HausdorffLoss
from medseg.losses.lovasz import LovaszLoss
from medseg.losses.marginal import MarginalLoss
from medseg.losses.region import FocalTverskyLoss, GeneralizedDiceLoss
from medseg.losses.voxelwise import CrossEntropyLoss, FocalLoss

__all__ = [
    "BoundaryLoss",
    "ClDiceLoss",
    "CompoundLoss",
    "CrossEntropyLoss",
    "DetectionLoss",
    "FocalLoss",
    "FocalTverskyLoss",
    "GeneralizedDiceLoss",
    "HausdorffLoss",
    "LovaszLoss",
    "MarginalLoss",
]
