"""Find the instances of a whole volume with a network that finds those of a tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from medseg.errors import UsageError
from medseg.inferers.instances.of_network import segment_tile
from medseg.inferers.instances.paste import label_map
from medseg.inferers.instances.samples import samples_of
from medseg.inferers.instances.test_time import Flipped, Several
from medseg.inferers.instances.tiles import tiles, whole
from medseg.inferers.precision import has_native_bf16

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.inferers.instances.found import Instances
    from medseg.inferers.memory import Event

PRECISIONS = ("auto", "bf16", "fp32")


class InstanceInferer(Inferer):
    """Tiles, the network over each, and what all of them saw as one set of instances.

    Args:
        roi_size: of a tile in voxels; None: the whole volume at once.
        overlap: voxels that neighbouring tiles share at least; as large as the largest instance is best.
        recentre: see every instance again in a tile that has it in the middle (centred.py) and begins at a multiple of so
            many voxels: the masks then depend on where tiles lie as good as not at all, for up to one more tile an
            instance. None: they stay as the tiles saw them.
        min_score: instances below it are left out, after tiles and mirror images are united.
        mask_iou: of two instances whose masks overlap more, the lesser one goes.
        mask_iom: the same for the overlap as a share of the smaller one.
        flips: axes (0, 1, 2), or lists of them, along which the volume is mirrored for further opinions of instances.
        min_stuff_mm3: for `medseg predict`: pieces of a class without instances that have less volume are left out.
        precision: "bf16", "fp32", or "auto": bf16 where the device computes in it, as in training.

    Attributes:
        found: the instances of the last image.
        stuff: (D, H, W) uint8, of the last image the class + 1 of voxels whose class has no instances, else 0, also
            beneath instances (stuff.py); None where the network knows no such class.
        events: what the last call decided by itself.
        progress: called with (tiles done, tiles in all); None for silence.
    """

    def __init__(
        self,
        roi_size: Sequence[int] | None = None,
        overlap: Sequence[int] | int = 0,
        *,
        recentre: int | None = None,
        min_score: float = 0.5,
        mask_iou: float = 0.3,
        mask_iom: float = 0.6,
        flips: Sequence[int | Sequence[int]] = (),
        min_stuff_mm3: float = 0.0,
        precision: str = "auto",
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise UsageError("MS-U374", f"precision {precision!r}", mend=f"use one of {', '.join(PRECISIONS)}")
        if recentre is not None and not (isinstance(recentre, int) and recentre >= 1):
            mend = "give a whole number of voxels of at least 1, for example the network's stride, or null"
            raise UsageError("MS-U371", f"recentre {recentre!r}", mend=mend)
        self.roi_size = None if roi_size is None else tuple(roi_size)
        self.overlap, self.recentre, self.min_score = overlap, recentre, min_score
        self.mask_iou, self.mask_iom = mask_iou, mask_iom
        self.flips = [(axes,) if isinstance(axes, int) else tuple(axes) for axes in flips]
        self.precision = precision
        self.min_stuff_mm3 = min_stuff_mm3
        self.found: Instances | None = None
        self.stuff: Tensor | None = None
        self.events: list[Event] = []
        self.progress: Callable[[int, int], None] | None = None

    def __call__(self, inputs: Tensor, network: nn.Module) -> Tensor:
        """(1, C, D, H, W) -> (1, 1, D, H, W) int32 map: instance n of `found` has the value n + 1.

        Raises:
            UsageError: MS-U141 more than one image.
        """
        if inputs.shape[0] != 1:
            what = f"{inputs.shape[0]} images at a time"
            raise UsageError("MS-U141", what, mend="give one image at a time, (1, C, D, H, W)")
        self.found = self.instances(inputs, network)
        ids = label_map(self.found, inputs.shape[2:]).ids
        return torch.from_numpy(ids.astype("int32"))[None, None]

    def instances(self, image: Tensor, network: nn.Module) -> Instances:
        """The instances of one image (1, C, D, H, W), by falling score; sets `stuff`."""

        def one(tile: Tensor) -> Instances:
            return segment_tile(tile, network, iou=self.mask_iou, iom=self.mask_iom)

        several = Several([one, *(Flipped(one, axes) for axes in self.flips)]) if self.flips else one
        return samples_of(image, self, lambda tile: [several(tile)], network)[0]

    def tiles_over(self, shape: Sequence[int], network: nn.Module):
        """Where the tiles of a volume (D, H, W) lie."""
        if self.roi_size is None:
            return [whole(shape)]
        return tiles(shape, self.roi_size, self.overlap, stride=getattr(network, "divisor", 1))

    def computing(self, tile: Tensor) -> torch.autocast:
        """The precision in which the network runs on a tile."""
        half = self.precision == "bf16" or (self.precision == "auto" and has_native_bf16(tile.device))
        return torch.autocast(tile.device.type, torch.bfloat16, enabled=half)
