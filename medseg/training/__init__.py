"""Pieces for MONAI's trainer that MONAI does not have, and `medseg train`."""

from medseg.training.anchor_report import AnchorReport
from medseg.training.datalist import datalist
from medseg.training.distil import DistillationLoss, Teacher
from medseg.training.freezing import Thaw, Unfrozen, frozen
from medseg.training.gradients import GradientGuard
from medseg.training.instance_metric import MaskAP, MaskPQ
from medseg.training.instances import prepare_instances
from medseg.training.metrics import ExactMetric
from medseg.training.precision import MixedPrecisionInferer
from medseg.training.ranks import Rank, RankHandlers, Replicated
from medseg.training.region_loss import RegionLoss
from medseg.training.schedule import BudgetedSchedule
from medseg.training.self_training import CertaintyLoss, NoDoubtd, WithPseudoLabels
from medseg.training.targets import Targets

__all__ = [
    "AnchorReport",
    "BudgetedSchedule",
    "CertaintyLoss",
    "DistillationLoss",
    "ExactMetric",
    "GradientGuard",
    "MaskAP",
    "MaskPQ",
    "MixedPrecisionInferer",
    "NoDoubtd",
    "Rank",
    "RankHandlers",
    "RegionLoss",
    "Replicated",
    "Targets",
    "Teacher",
    "Thaw",
    "Unfrozen",
    "WithPseudoLabels",
    "datalist",
    "frozen",
    "prepare_instances",
]
