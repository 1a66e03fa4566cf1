"""Uncertainty of one case: samples of the preprocessed image, put back on the image's own grid and measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor

from medseg.geometry import Grid
from medseg.inferers.uncertain import UncertainInferer
from medseg.resample import resample_image, resample_labels
from medseg.workflows.doubt import doubts
from medseg.workflows.sampling import calibration, channel_values, sampler, walker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from medseg.bundle.load import Bundle
    from medseg.inferers.memory import Event
    from medseg.inferers.moments import Uncertainty
    from medseg.labels import LabelTable
    from medseg.volume import Volume
    from medseg.workflows.doubt import Doubt
    from medseg.workflows.method import Method


@dataclass(frozen=True, eq=False)
class Uncertain:
    """What the samples of a case say, on the image's own grid.

    Args:
        method: how they were made.
        samples: how many.
        maps: 'entropy' and 'mutual_information' -> (I, J, K) float32 in [0, 1].
        doubt: by structure.
        temperature: that the logits were divided by.
        kept: (T, I, J, K) uint8 or uint16 labels of each sample, where asked for.
    """

    method: Method
    samples: int
    maps: Mapping[str, np.ndarray]
    doubt: Mapping[str, Doubt] = field(default_factory=dict)
    temperature: float = 1.0
    kept: np.ndarray | None = None


def sample(
    image: MetaTensor, bundle: Bundle, method: Method, *, progress: Callable[[int, int], None] | None = None
) -> tuple[Uncertainty, MetaTensor, tuple[Event, ...]]:
    """Samples of a preprocessed image, and the prediction that the bundle's postprocessing takes.

    Args:
        image: (1, C, *space), on the device that computes.
        bundle: its networks there too.
        method: how.
        progress: called with (windows x samples done, in all).

    Returns:
        The statistics; (1, 1, *space) labels, or (1, K, *space) logits of the mean probabilities where the bundle's
        inferer gives logits; what was decided on the way.
    """
    settings = walker(bundle)
    affine = image.affine[0] if image.affine.ndim == 3 else image.affine
    source = sampler(method, bundle, affine.cpu().numpy())
    before, settings.progress = settings.progress, progress
    inferer = UncertainInferer(settings, temperature=calibration(method, bundle).temperature, keep=method.keep)
    try:
        found = inferer(image, source)
    finally:
        settings.progress = before
    if getattr(bundle.inferer, "output", "logits") == "labels":
        prediction = found.labels[None, None]
    else:
        mean = found.mean.clamp(1e-7, 1 - 1e-7)
        prediction = (mean.log() if settings.regions is None else mean.logit())[None]
    # With the image's meta data, as inferers return it: Invertd finds what to invert there.
    return found, MetaTensor(prediction.to(image.device)).copy_meta_from(image), tuple(inferer.events)


def restore(found: Uncertainty, image: MetaTensor, segmentation: Volume, bundle: Bundle, method: Method) -> Uncertain:
    """Maps on the segmentation's grid, and what the samples say of each structure.

    Entropies are computed where the network computes and interpolated linearly; outside its grid they are 0.

    Args:
        found: on the grid of `image`.
        image: (C, *space), as preprocessed.
        segmentation: the final label map.
        bundle: its labels, calibration and thresholds.
        method: how the samples were made.
    """
    i, j, k = (int(n) for n in image.shape[1:])
    source, target = Grid((i, j, k), image.affine.cpu().numpy()), segmentation.grid
    threads = torch.get_num_threads()

    def back(values: torch.Tensor) -> np.ndarray:
        moved = resample_image(values.cpu().numpy(), source, target, threads=threads)
        return np.clip(moved, 0.0, 1.0)

    maps = {"entropy": back(found.entropy), "mutual_information": back(found.mutual_information)}
    values = channel_values(bundle, len(found.mean))
    regions = walker(bundle).regions
    structures = _structures(bundle.labels, values[1:] if regions is None else values, nested=regions is not None)
    votes = {name: _together(found.votes, of).cpu().numpy() for name, of in structures.items()}
    sizes = {name: (found.voxels[:, of].sum(1).double() * source.voxel_ml).tolist() for name, of in structures.items()}
    told = doubts(segmentation, maps["entropy"], votes, sizes, bundle.labels, calibration(method, bundle))
    kept = None
    if found.kept is not None:
        kept = np.stack([resample_labels(one.cpu().numpy(), source, target, threads=threads) for one in found.kept])
        if regions is None and values != tuple(range(len(values))):  # classes that postprocessing maps to values
            kept = np.asarray(values, np.uint8 if max(values) <= 255 else np.uint16)[kept]
    return Uncertain(method, found.samples, maps, told, calibration(method, bundle).temperature, kept)


def _together(votes: torch.Tensor, places: Sequence[int]) -> torch.Tensor:
    """Votes for any of some classes; no copy for one."""
    return votes[places[0]] if len(places) == 1 else votes[list(places)].sum(0, dtype=torch.uint8)


def _structures(table: LabelTable, values: Sequence[int], *, nested: bool) -> dict[str, list[int]]:
    """Structure -> its places among the votes.

    Args:
        table: the structures.
        values: the value of each place.
        nested: each place is a whole region; else classes of which a region is made, and no two share a voxel.
    """
    found = {}
    for label in table:
        parts = (label.value,) if nested else label.region or (label.value,)
        if places := [values.index(value) for value in parts if value in values]:
            found[label.name] = places
    return found
