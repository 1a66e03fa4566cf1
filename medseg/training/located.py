"""Train a network and its locator together: the scan's overview goes into the network beside the patch.

MONAI's trainer hands a network what `prepare_batch` gives it and a loss what the network answers, so these two are all that
the cascade needs: one step, one optimizer, one set of weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monai.data.meta_tensor import MetaTensor
from torch import Tensor, nn

from medseg.training.targets import Targets
from medseg.transforms.overview import OVERVIEW, WHEREABOUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class LocatedBatch:
    """`prepare_batch` of MONAI's trainer for `medseg.networks.LocatedUNet`.

    Args:
        prepare: makes images and targets of a batch; None: image and label.
    """

    def __init__(self, prepare: Callable[..., tuple[Tensor, Tensor]] | None = None) -> None:
        self.prepare = prepare or Targets()

    def __call__(
        self, batch: Mapping[str, Any], device: str | Any = None, non_blocking: bool = False, **how: Any
    ) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[()], dict[str, Tensor]]:
        """Images, (targets, whereabouts (B, 1, *cells)), and {overview: (B, C, *cells)} for the network."""
        images, targets = self.prepare(batch, device, non_blocking, **how)

        def there(name: str) -> Tensor:
            tensor = batch[name]
            tensor = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
            return tensor.to(device=device, non_blocking=non_blocking, **how)

        return images, (targets, there(WHEREABOUTS)), (), {"overview": there(OVERVIEW)}


class LocatedLoss(nn.Module):
    """The loss of the segmentation plus that of the locator, each on weights of its own.

    Args:
        loss: of the network's output and the targets.
        locator: of the locator's logits (B, 1, *cells) and whereabouts of the same shape.
        weight: of the locator's loss.
    """

    def __init__(
        self, loss: Callable[[Any, Tensor], Tensor], locator: Callable[[Tensor, Tensor], Tensor], weight: float = 1.0
    ) -> None:
        super().__init__()
        self.loss, self.locator, self.weight = loss, locator, weight

    def forward(self, input: Sequence[Any], target: Sequence[Tensor]) -> Tensor:  # noqa: A002 - MONAI's name
        """(output, locator's logits) and (targets, whereabouts) -> a scalar."""
        (found, cells), (targets, whereabouts) = input, target
        return self.loss(found, targets) + self.weight * self.locator(cells, whereabouts)
