"""`--uncertainty METHOD`: from a method to samples of a bundle's networks."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from monai.inferers.inferer import SimpleInferer, SliceInferer
from monai.inferers.inferer import SlidingWindowInferer as MonaiSlidingWindowInferer

from medseg.bundle.uncertainty import AXES, Calibration
from medseg.errors import BundleError, UsageError
from medseg.geometry import Grid, reorientation
from medseg.inferers.dropout import McDropout
from medseg.inferers.ensemble import Ensemble
from medseg.inferers.mirror_mean import mirror_mean
from medseg.inferers.mirrored import Mirror, Mirrored
from medseg.inferers.moments import MOST_SAMPLES
from medseg.inferers.sliding import SlidingWindowInferer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from medseg.bundle.load import Bundle
    from medseg.inferers.sampler import Sampler
    from medseg.workflows.method import Method

LEFT_RIGHT = AXES["LR"]


def check_method(method: Method, bundle: Bundle) -> None:
    """Refuse what a bundle cannot do, before any scan is read.

    Raises:
        UsageError: MS-U146 no dropout, MS-U147 too few or too many samples, MS-U149 no mirrors, MS-U308 no further members.
        BundleError: MS-O323 its inferer cannot be sampled; and what loading the members raises.
    """
    walker(bundle)
    sampler(method, bundle, np.eye(4))


def sampler(method: Method, bundle: Bundle, affine: np.ndarray) -> Sampler:
    """The samples of a method.

    Args:
        method: what was asked for.
        bundle: its networks on the device that computes.
        affine: (4, 4) of the preprocessed image: which of its axes runs from left to right.

    Raises:
        UsageError, BundleError: see `check_method`.
    """
    if method.name == "mc":
        return dropout(method, bundle)
    networks = members(method, bundle)
    if not method.name.endswith("tta"):  # each member answers as in a plain prediction
        axes = getattr(bundle.inferer, "mirror_axes", ())
        return Ensemble([mirror_mean(network, axes) for network in networks])  # type: ignore[misc]
    return Mirrored(Ensemble(networks), [_mirror(axes, bundle, affine) for axes in bundle.uncertainty.mirrors])


def dropout(method: Method, bundle: Bundle) -> McDropout:
    """The samples of 'mc'; raises MS-U146 and MS-U147 as `check_method` does."""
    declared = bundle.uncertainty
    count = declared.samples if method.samples is None else method.samples
    if count > MOST_SAMPLES:
        mend = f"ask for at most {MOST_SAMPLES}, such as --uncertainty mc:20"
        raise UsageError("MS-U147", f"{count} samples of Monte Carlo dropout", mend=mend)
    return McDropout(bundle.network, count, seed=method.seed, points=declared.points)


def members(method: Method, bundle: Bundle) -> tuple[nn.Module, ...]:
    """The networks of 'tta' (one) and 'ensemble'; raises MS-U308 as `check_method` does."""
    networks = bundle.members() if method.name.startswith("ensemble") else (bundle.network,)
    if method.name.startswith("ensemble") and len(networks) < 2:
        raise UsageError(
            "MS-U308",
            f"{bundle.name} has one weight file, an ensemble needs several",
            mend="use --uncertainty mc or tta, or name further weights under `uncertainty` in its inference.json",
        )
    return networks


def walker(bundle: Bundle) -> SlidingWindowInferer:
    """The bundle's inferer as one that can be sampled.

    Raises:
        BundleError: MS-O323 it is neither medseg's nor MONAI's sliding window, nor MONAI's simple inferer.
    """
    inferer: Any = bundle.inferer
    regions = [label.value for label in bundle.labels] if _sigmoid(bundle) else None
    if isinstance(inferer, SlidingWindowInferer):
        if regions is None or inferer.regions is not None or inferer.output == "labels":
            return inferer
        inferer = copy.copy(inferer)  # its logits become probabilities behind it, in the postprocessing
        inferer.regions = tuple(regions)
        return inferer
    if isinstance(inferer, MonaiSlidingWindowInferer) and not isinstance(inferer, SliceInferer):
        mode = str(getattr(inferer.mode, "value", inferer.mode))
        return SlidingWindowInferer(inferer.roi_size, inferer.overlap, mode=mode, regions=regions)  # type: ignore[arg-type]
    if isinstance(inferer, SimpleInferer):
        return SlidingWindowInferer((-1, -1, -1), regions=regions)
    raise BundleError(
        "MS-O323",
        f"its inferer is a {type(inferer).__name__}, of which uncertainty cannot be sampled",
        file=bundle.root,
        mend="name medseg.inferers.SlidingWindowInferer in its inference.json",
    )


def calibration(method: Method, bundle: Bundle) -> Calibration:
    """What the bundle says was fitted for a method; nothing fitted is a temperature of 1."""
    return bundle.uncertainty.calibration.get(method.name, Calibration())


def _mirror(axes: Sequence[int], bundle: Bundle, affine: np.ndarray) -> Mirror:
    """Patient axes as array axes of the network's grid; left and right labels change places across the midline."""
    return Mirror(array_axes(axes, affine), _swapped(bundle) if LEFT_RIGHT in axes else ())


def array_axes(axes: Sequence[int], affine: np.ndarray) -> tuple[int, ...]:
    """Patient axes (numbers of `AXES`) as axes of an array with this (4, 4) affine."""
    along = reorientation(Grid((1, 1, 1), affine)).order
    return tuple(along[axis] for axis in axes)


def channel_values(bundle: Bundle, count: int) -> tuple[int, ...]:
    """The value in the label map of each of the network's output channels; 0 is background.

    A class is its own value, as argmax gives it. Where values reach beyond the classes, postprocessing maps them: the
    classes then are the labels in ascending order, if there are as many; else nobody knows, and () is returned.
    """
    regions = walker(bundle).regions
    if regions is not None:
        return tuple(regions)
    values = tuple(bundle.labels.by_value)
    if max(values, default=0) < count:
        return tuple(range(count))
    return (0, *values) if len(values) == count - 1 else ()


def _swapped(bundle: Bundle) -> tuple[int, ...] | Callable[[int], tuple[int, ...]]:
    """The output channel that takes the place of each in a left-right mirror image; () where none moves."""
    table = bundle.labels
    if not any(label.mirror for label in table):
        return ()
    partner = {label.value: table.by_name[label.mirror].value for label in table if label.mirror}

    def order(count: int) -> tuple[int, ...]:
        values = channel_values(bundle, count)
        if not values:
            what = f"the network returns {count} channels, and the label table does not say which are left and right"
            raise UsageError("MS-U142", what, mend="give one label value for each output channel of the network")
        place = {value: channel for channel, value in enumerate(values)}
        return tuple(place.get(partner.get(value, value), channel) for channel, value in enumerate(values))

    gaps = walker(bundle).regions is None and max(table.by_value) != len(table)
    return order if gaps else order(len(table) + (walker(bundle).regions is None))


def _sigmoid(bundle: Bundle) -> bool:
    """Whether the postprocessing turns logits into sigmoid channels (nested regions)."""
    return any(any(getattr(step, "sigmoid", None) or ()) for step in bundle.postprocessing.transforms)
