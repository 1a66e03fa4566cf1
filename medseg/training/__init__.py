"""Pieces for MONAI's trainer that MONAI does not have, and `medseg train`."""

from medseg.training.anchor_report import AnchorReport
from medseg.training.average import MovingAverage
from medseg.training.best import BestWeights
from medseg.training.case_cache import CaseCache
from medseg.training.checkpoints import Checkpoints
from medseg.training.datalist import datalist
from medseg.training.distil import DistillationLoss, Teacher
from medseg.training.final import FinalWeights
from medseg.training.freezing import Thaw, Unfrozen, frozen
from medseg.training.gradients import GradientGuard
from medseg.training.instance_metric import MaskAP, MaskPQ
from medseg.training.instances import prepare_instances
from medseg.training.loader import CaseLoader
from medseg.training.located import LocatedBatch, LocatedLoss
from medseg.training.metrics import ExactMetric
from medseg.training.precision import MixedPrecisionInferer
from medseg.training.progress import Progress
from medseg.training.ranks import Rank, RankHandlers, Replicated
from medseg.training.recompute import Recompute
from medseg.training.region_loss import RegionLoss
from medseg.training.scan_scores import Better, ScanMetrics, ScanScoresd
from medseg.training.schedule import BudgetedSchedule
from medseg.training.self_training import CertaintyLoss, NoDoubtd, WithPseudoLabels
from medseg.training.targets import Targets

__all__ = [
    "AnchorReport",
    "BestWeights",
    "Better",
    "BudgetedSchedule",
    "CaseCache",
    "CaseLoader",
    "CertaintyLoss",
    "Checkpoints",
    "DistillationLoss",
    "ExactMetric",
    "FinalWeights",
    "GradientGuard",
    "LocatedBatch",
    "LocatedLoss",
    "MaskAP",
    "MaskPQ",
    "MixedPrecisionInferer",
    "MovingAverage",
    "NoDoubtd",
    "Progress",
    "Rank",
    "RankHandlers",
    "Recompute",
    "RegionLoss",
    "Replicated",
    "ScanMetrics",
    "ScanScoresd",
    "Targets",
    "Teacher",
    "Thaw",
    "Unfrozen",
    "WithPseudoLabels",
    "datalist",
    "frozen",
    "prepare_instances",
]
