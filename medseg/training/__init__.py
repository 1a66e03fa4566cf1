"""Pieces for MONAI's trainer that MONAI does not have, and `medseg train`."""

from medseg.training.anchor_report import AnchorReport
from medseg.training.datalist import datalist
from medseg.training.gradients import GradientGuard
from medseg.training.instance_metric import MaskAP, MaskPQ
from medseg.training.instances import prepare_instances
from medseg.training.metrics import ExactMetric
from medseg.training.precision import MixedPrecisionInferer
from medseg.training.region_loss import RegionLoss
from medseg.training.schedule import BudgetedSchedule

__all__ = [
    "AnchorReport",
    "BudgetedSchedule",
    "ExactMetric",
    "GradientGuard",
    "MaskAP",
    "MaskPQ",
    "MixedPrecisionInferer",
    "RegionLoss",
    "datalist",
    "prepare_instances",
]
