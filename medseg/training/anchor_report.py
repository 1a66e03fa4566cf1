"""Says, while training begins, how many of the objects the network can propose at best, and which sizes fit better."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import torch
from ignite.engine import Events

from medseg.boxes.anchor_sizes import REACH, best_iou, fit_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ignite.engine import Engine
    from torch import Tensor, nn

    from medseg.networks.mask_rcnn import MaskRCNN

# Below this share of objects within reach of an anchor, other sizes are suggested.
ENOUGH = 0.95


class AnchorReport:
    """A MONAI handler that looks at the boxes of the first epoch, after all deformation.

    Args:
        network: a `MaskRCNN`, or one in a wrapper with `.module`.

    Attributes:
        recall: IoU -> share of the objects that an anchor can reach; None before the first epoch has ended.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.recall: dict[float, float] | None = None
        self._sizes: list[Tensor] = []

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._look)
        engine.add_event_handler(Events.EPOCH_COMPLETED(once=1), self._report)

    def _look(self, engine: Engine) -> None:
        if self.recall is None:
            output = cast("Mapping[str, Any]", engine.state.output)
            self._sizes += [truth.boxes[:, 3:] - truth.boxes[:, :3] for truth in output["label"]]

    def _report(self, engine: Engine) -> None:
        del engine
        log = logging.getLogger(__name__)
        sizes = torch.cat([*self._sizes, torch.zeros(0, 3)]).cpu().double()
        self._sizes = []
        if not len(sizes):
            log.warning("no object in the first epoch: are the labels instance maps?")
            return
        network = cast("MaskRCNN", getattr(self.network, "module", self.network))
        strides = torch.tensor(network.rpn.strides, dtype=torch.float64)
        best = best_iou(sizes, [torch.tensor(s, dtype=torch.float64) for s in network.rpn.sizes], strides)
        self.recall = {iou: float((best >= iou).double().mean()) for iou in REACH}
        reached = ", ".join(f"{share:.1%} with IoU {iou:g}" for iou, share in self.recall.items())
        log.info("anchors can propose, of %d objects of the first epoch: %s", len(sizes), reached)
        if min(self.recall.values()) < ENOUGH:
            better = fit_sizes(sizes, network.rpn.anchors_per_place, (1, 1, 1), network.rpn.strides)
            log.warning(
                "anchors that fit these objects better, voxels: %s", better.sizes_voxels.round().long().tolist()
            )
