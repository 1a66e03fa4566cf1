"""`--uncertainty` with a bundle that finds instances: samples of them, and what they say of each.

Each sample is a prediction of its own over the whole volume (tiles united, cut at the bundle's `min_score`), so "found
by 7 of 10 samples" means that seven predictions would have shown it. What none of them shows is not there; what few show
stays and is marked as rare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor

from medseg.boxes.convention import to_mm
from medseg.bundle.uncertainty import Calibration
from medseg.errors import UsageError
from medseg.geometry import Grid
from medseg.inferers.instances.agreement import Agreement, agreement, entropy_map
from medseg.inferers.instances.dropout import Dropped
from medseg.inferers.instances.of_network import segment_tile
from medseg.inferers.instances.paste import label_map
from medseg.inferers.instances.samples import samples_of
from medseg.inferers.instances.test_time import Each, Flipped
from medseg.labels import LabelTable
from medseg.resample import resample_image, resample_labels
from medseg.workflows.doubt import doubts
from medseg.workflows.instance_row import Agreed
from medseg.workflows.instances import as_ids
from medseg.workflows.sampling import LEFT_RIGHT, array_axes, dropout, members
from medseg.workflows.stuff import stuff_values
from medseg.workflows.uncertainty import Uncertain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from medseg.bundle.load import Bundle
    from medseg.inferers.instances.found import Instances
    from medseg.inferers.instances.inferer import InstanceInferer
    from medseg.inferers.instances.test_time import Network
    from medseg.volume import Volume
    from medseg.workflows.method import Method


@dataclass(frozen=True, eq=False)
class Sampled:
    """Samples of one volume, on the network's grid.

    Args:
        each: T sets of instances.
        agreement: which of them are one object, and how far they agree.
        grid: the network's.
    """

    each: Sequence[Instances]
    agreement: Agreement
    grid: Grid

    def agreed(self) -> list[Agreed]:
        """What they say of each object, in patient axes."""
        told, boxes = self.agreement, [to_mm(sample.boxes, self.grid.affine).numpy() for sample in self.each]
        return [
            Agreed(
                samples=len(self.each),
                frequency=float(told.frequency[n]),
                score_mean=float(told.score_mean[n]),
                score_sd=float(told.score_sd[n]),
                class_share=float(told.class_share[n]),
                box_sd_mm=_box_sd([boxes[t][k] for t, k in enumerate(row.tolist()) if k >= 0]),
                volume_sd_ml=float(told.volume_sd_mm3[n]) / 1000,
                mask_iou=float(told.mask_iou[n]),
                rare=bool(told.rare[n]),
            )
            for n, row in enumerate(told.members)
        ]


def check_instance_method(method: Method, bundle: Bundle) -> None:
    """Refuse what a bundle of instances cannot do, before any scan is read; raises as `sampling.check_method` does."""
    source_of(method, bundle, np.eye(4))


def source_of(method: Method, bundle: Bundle, affine: np.ndarray) -> Callable[[Tensor], list[Instances]]:
    """The samples of a tile.

    Args:
        method: what was asked for.
        bundle: its networks on the device that computes.
        affine: (4, 4) of the preprocessed image: which of its axes runs from left to right.

    Raises:
        UsageError: MS-U146 no dropout, MS-U147 too few or too many samples, MS-U149 no mirrors, MS-U308 no further
            members.
    """
    inferer = bundle.inferer
    if method.name == "mc":
        return Dropped(dropout(method, bundle), inferer.mask_iou, inferer.mask_iom)
    plain = [_one(network, inferer) for network in members(method, bundle)]
    if not method.name.endswith("tta"):
        return Each(plain)
    mirrors = [(array_axes(axes, affine), _swapped(axes, bundle)) for axes in bundle.uncertainty.mirrors]
    mirrors = mirrors or [(axes, {}) for axes in inferer.flips]
    if not mirrors:
        what = f"{bundle.name} declares no symmetry for test-time augmentation"
        raise UsageError("MS-U149", what, mend='declare "mirrors": ["LR"] under `uncertainty` in its inference.json')
    turned = [[one, *(Flipped(one, axes, classes) for axes, classes in mirrors)] for one in plain]
    return Each([network for networks in turned for network in networks])


def sample_instances(
    image: MetaTensor, bundle: Bundle, method: Method, *, progress: Callable[[int, int], None] | None = None
) -> tuple[Sampled, MetaTensor]:
    """Samples of a preprocessed image, and the map of their objects' ids that the bundle's postprocessing takes.

    Where objects overlap a voxel is that of the higher score: a rare one takes nothing from one found more often.

    Args:
        image: (1, C, D, H, W), on the device that computes.
        bundle: its networks there too.
        method: how.
        progress: called with (tiles done, in all).
    """
    inferer = bundle.inferer
    affine = (image.affine[0] if image.affine.ndim == 3 else image.affine).cpu().numpy()
    d, h, w = (int(n) for n in image.shape[2:])
    grid = Grid((d, h, w), affine)
    before, inferer.progress = inferer.progress, progress
    try:
        each = samples_of(image, inferer, source_of(method, bundle, affine), bundle.network)
    finally:
        inferer.progress = before
    told = agreement(each, grid.spacing_mm)
    ids = label_map(told.instances, grid.shape, by="score").ids
    inferer.found = told.instances
    prediction = MetaTensor(torch.from_numpy(ids.astype(np.int32))[None, None]).copy_meta_from(image)
    return Sampled(each, told, grid), prediction


def restore_samples(found: Sampled, segmentation: Volume, bundle: Bundle, method: Method) -> Uncertain:
    """The entropy on the image's own grid, and what the samples say of each class that has instances.

    The entropy is that of the mean of all samples' masks, of the least certain object at a voxel, / ln 2; computed where
    the network computes and interpolated linearly. A mutual information is not defined: samples disagree about whole
    objects, which have no voxel-wise probability where they were not found.

    Args:
        found: the samples.
        segmentation: the final class map.
        bundle: its labels.
        method: how the samples were made.
    """
    grid, target, threads = found.grid, segmentation.grid, torch.get_num_threads()
    entropy = resample_image(entropy_map(found.agreement, grid.shape), grid, target, threads=threads)
    maps = {"entropy": np.clip(entropy, 0.0, 1.0)}
    drawn = [label_map(sample, grid.shape) for sample in found.each]
    things = LabelTable(tuple(label for label in bundle.labels if label.value not in stuff_values(bundle)))
    sizes = {
        label.name: [
            float(one.voxels[(sample.classes == label.value - 1).numpy()].sum()) * grid.voxel_ml
            for one, sample in zip(drawn, found.each, strict=True)
        ]
        for label in things
    }
    told = doubts(segmentation, maps["entropy"], {}, sizes, things, Calibration())
    kept = None
    if method.keep:
        names = found.agreement.members
        mapped = (_renamed(one.ids, names[:, t]) for t, one in enumerate(drawn))
        kept = np.stack([resample_labels(ids, grid, target, threads=threads) for ids in mapped])
    return Uncertain(method, len(found.each), maps, told, kept=kept)


def _one(network: torch.nn.Module, inferer: InstanceInferer) -> Network:
    return lambda tile: segment_tile(tile, network, iou=inferer.mask_iou, iom=inferer.mask_iom)


def _swapped(axes: Sequence[int], bundle: Bundle) -> Mapping[int, int]:
    """The class that takes the place of another in a mirror image: left and right across the midline."""
    table = bundle.labels
    if LEFT_RIGHT not in axes:
        return {}
    return {label.value - 1: table.by_name[label.mirror].value - 1 for label in table if label.mirror}


def _box_sd(boxes: Sequence[np.ndarray]) -> tuple[float, ...]:
    """SD of each edge, NaN for one box alone."""
    return tuple(np.std(boxes, axis=0).tolist()) if len(boxes) > 1 else (float("nan"),) * 6


def _renamed(ids: np.ndarray, instance_of: np.ndarray) -> np.ndarray:
    """A sample's map with the ids of the objects: `instance_of` (N,) says which of its instances each object is."""
    table = np.zeros(int(ids.max(initial=0)) + 1, np.int64)
    for number, instance in enumerate(instance_of.tolist(), 1):
        if 0 <= instance < len(table) - 1:
            table[instance + 1] = number
    return as_ids(table[ids])
