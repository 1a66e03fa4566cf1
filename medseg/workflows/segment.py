"""From a volume to its label map: the one path that the command, the Python API and the demo share.

It is the bundle's own pipeline with medseg's reader before it and medseg's writer behind it: preprocessing
without LoadImaged, the inferer, postprocessing without SaveImaged, in the order and with the collation of
MONAI's SupervisedEvaluator, so that `python -m monai.bundle run` gives identical labels.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.data.utils import decollate_batch, list_data_collate

from medseg.errors import BundleError, MedsegError
from medseg.geometry import Grid, corner_distance_mm, same_space
from medseg.inferers.instances.inferer import InstanceInferer
from medseg.inferers.memory import is_out_of_memory
from medseg.inferers.moments import Uncertainty
from medseg.inferers.sliding import SlidingWindowInferer
from medseg.transforms.reader import to_metatensor
from medseg.volume import Source, Volume
from medseg.workflows.instance_samples import Sampled, restore_samples, sample_instances
from medseg.workflows.instances import Placed, as_ids, place
from medseg.workflows.memory import memory_guard
from medseg.workflows.stuff import stuff_of
from medseg.workflows.uncertainty import restore, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from medseg.bundle.load import Bundle
    from medseg.inferers.memory import Event
    from medseg.workflows.method import Method
    from medseg.workflows.uncertainty import Uncertain


@dataclass(frozen=True, eq=False)
class Segmented:
    """A label map and how it was made.

    Args:
        labels: (I, J, K) uint8 or uint16 on exactly the input's grid; of instances their classes.
        events: what the inferer decided: precision, body box, out-of-memory fallbacks.
        cleaned_ml: volume that the bundle's clean-up removed, mL by structure.
        filled_ml: volume of the holes that it filled, mL by structure.
        network_shape: spatial shape that the network saw.
        seconds: 'preprocess', 'infer', 'restore'.
        uncertainty: what several samples say, where asked for.
        instances: where the bundle finds instances.
    """

    labels: Volume
    events: tuple[Event, ...] = ()
    cleaned_ml: Mapping[str, float] = field(default_factory=dict)
    filled_ml: Mapping[str, float] = field(default_factory=dict)
    network_shape: tuple[int, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    uncertainty: Uncertain | None = None
    instances: Placed | None = None


def segment(
    volume: Volume,
    bundle: Bundle,
    *,
    device: torch.device | str = "cpu",
    method: Method | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Segmented:
    """Segment one volume with a bundle.

    Args:
        volume: (I, J, K) or (C, I, J, K), as read; its axes in any order.
        bundle: loaded, its network on `device`.
        device: where the network runs.
        method: how its uncertainty is found; None: the network runs once.
        progress: called with (windows done, windows in all), where the bundle's inferer can tell.

    Raises:
        BundleError: MS-O320 the bundle's output is no label map; MS-O321 it does not lie on the input's grid;
            MS-O322 its preprocessing or postprocessing fails; MS-O324 it has ids of which nothing was found.
        MemoryLimitError: MS-M310 it does not fit into memory; the inferer's own after its fallbacks.
    """
    clock = _Clock()
    with torch.no_grad(), memory_guard("segment this volume"):
        with clock.over("preprocess"):
            batch: Any = list_data_collate([prepare(volume, bundle)])
        image = batch["image"].to(device)
        found, events = None, ()
        with clock.over("infer"), _told(bundle.inferer, progress):
            if method is not None and bundle.finds_instances:
                found, prediction = sample_instances(image, bundle, method, progress=progress)
            elif method is None:
                prediction = bundle.inferer(image, bundle.network)
                events = tuple(getattr(bundle.inferer, "events", ()))
            else:
                found, prediction, events = sample(image, bundle, method, progress=progress)
        with clock.over("restore"), _blame(bundle, "postprocessing"):
            items: Any = decollate_batch({**batch, "image": image, "pred": prediction})
            finished: Any = bundle.postprocessing(items[0])
            result = finished["pred"]
            placed = _instances(result, volume, bundle, image[0], found) if bundle.finds_instances else None
            labels = _label_map(result, volume, bundle) if placed is None else placed.class_map()
            told = None
            if isinstance(found, Sampled) and method is not None:
                told = restore_samples(found, labels, bundle, method)
            elif isinstance(found, Uncertainty) and method is not None:
                told = restore(found, image[0], labels, bundle, method)
    stuff = None if placed is None else placed.stuff
    cleaned = {**_noted(result, "cleaned_ml"), **({} if stuff is None else stuff.cleaned_ml)}
    return Segmented(
        labels=labels,
        events=events,
        cleaned_ml=_named(cleaned, bundle),
        filled_ml=_named(_noted(result, "filled_ml"), bundle),
        network_shape=tuple(image.shape[2:]),
        seconds=clock.seconds,
        uncertainty=told,
        instances=placed,
    )


def prepare(volume: Volume, bundle: Bundle) -> Any:
    """What the network sees of a volume: a dictionary with the preprocessed "image", (C, I, J, K).

    Raises:
        BundleError: MS-O322 the bundle's preprocessing fails.
    """
    with _blame(bundle, "preprocessing"):
        return bundle.preprocessing({"image": to_metatensor(volume)})


def _label_map(result: Any, volume: Volume, bundle: Bundle) -> Volume:
    """The output as a label map on the input's grid, or a BundleError that says what is wrong with it."""
    array = _whole_numbers(result, volume, bundle, 65535)
    small = array.max(initial=0) <= 255
    array = np.ascontiguousarray(array, dtype=np.uint8 if small else np.uint16)
    return Volume(array, volume.affine, Source(format="array"), bundle.labels)


def _instances(result: Any, volume: Volume, bundle: Bundle, image: Any, sampled: Any) -> Placed:
    """The output as a map of ids on the input's grid, with what the inferer found of each, or a BundleError."""
    ids = as_ids(_whole_numbers(result, volume, bundle, 2**32 - 1))
    found = bundle.inferer.found
    i, j, k = (int(n) for n in image.shape[1:])
    network = Grid((i, j, k), np.asarray(image.affine.cpu(), np.float64))
    own = Volume(ids, volume.affine, Source(format="array"))
    agreed = sampled.agreed() if isinstance(sampled, Sampled) else None
    stuff = stuff_of(bundle, network, own)
    try:
        return place(own, found, network, bundle.labels, agreed, stuff)
    except ValueError as error:
        raise BundleError(
            "MS-O324",
            f"the postprocessing changes the ids of instances: {error}",
            file=bundle.root,
            mend="leave the values as they are in the bundle's postprocessing: medseg.transforms.RestoreGridd does",
        ) from error


def _whole_numbers(result: Any, volume: Volume, bundle: Bundle, most: int) -> np.ndarray:
    """The output as whole numbers (I, J, K) on the input's grid, or a BundleError."""
    array = np.asarray(result.cpu() if isinstance(result, torch.Tensor) else result)
    if array.ndim != 4 or array.shape[0] != 1:
        raise BundleError(
            "MS-O320",
            f"the postprocessing gives an array of shape {array.shape}, a label map is (1, I, J, K)",
            file=bundle.root,
            mend="end the bundle's postprocessing with one label map: AsDiscreted(keys='pred', argmax=True), "
            "or medseg.transforms.RestoreGridd",
        )
    array = array[0]
    affine = np.asarray(getattr(result, "affine", volume.affine), dtype=np.float64)
    _check_grid(array.shape, affine, volume, bundle)
    if array.dtype.kind not in "ub":
        whole = np.rint(array)
        if not np.array_equal(whole, array) or whole.min(initial=0) < 0 or whole.max(initial=0) > most:
            raise BundleError(
                "MS-O320",
                f"the postprocessing gives values from {array.min():g} to {array.max():g}, a label map has whole "
                f"numbers from 0 to {most}",
                file=bundle.root,
                mend="end the bundle's postprocessing with AsDiscreted(keys='pred', argmax=True)",
            )
        array = whole
    return array


def _check_grid(shape: tuple[int, ...], affine: np.ndarray, volume: Volume, bundle: Bundle) -> None:
    if shape != volume.grid.shape:
        found = f"shape {shape}, the input has {volume.grid.shape}"
    else:
        grid = Grid(volume.grid.shape, affine)
        if same_space(grid, volume.grid):
            return
        found = f"corners up to {corner_distance_mm(grid, volume.grid):.3g} mm away from the input's"
    raise BundleError(
        "MS-O321",
        f"the postprocessing does not bring the result back onto the input's grid: {found}",
        file=bundle.root,
        mend="put medseg.transforms.RestoreGridd (or Invertd with nearest_interp and the preprocessing's transforms) "
        "into the bundle's postprocessing",
    )


def _noted(result: Any, what: str) -> dict[int, float]:
    """Removed or filled volume by value, as CleanComponentsd noted it."""
    return dict(getattr(result, "meta", {}).get(what) or {})


def _named(found: Mapping[int, float], bundle: Bundle) -> dict[str, float]:
    """Volume by structure name."""
    names = {} if bundle.labels is None else bundle.labels.by_value
    return {names[int(v)].name if int(v) in names else f"label {int(v)}": float(ml) for v, ml in found.items()}


@contextmanager
def _told(inferer: Any, progress: Callable[[int, int], None] | None) -> Iterator[None]:
    """Let medseg's inferer report its windows; MONAI's own cannot (its `progress` is a bar on the screen)."""
    if progress is None or not isinstance(inferer, SlidingWindowInferer | InstanceInferer):
        yield
        return
    before = inferer.progress
    inferer.progress = progress
    try:
        yield
    finally:
        inferer.progress = before


@contextmanager
def _blame(bundle: Bundle, part: str) -> Iterator[None]:
    """Say that a foreign bundle's own transform failed, and which."""
    try:
        yield
    except RuntimeError as error:
        # MONAI wraps what a transform raises: "applying transform <...>" from the real error.
        if "applying transform" not in str(error) or error.__cause__ is None:
            raise
        cause = error.__cause__
        if isinstance(cause, MedsegError) or is_out_of_memory(cause):
            raise cause from error
        transform = str(error).split("applying transform", 1)[1].strip().split(" object at")[0].lstrip("<")
        raise BundleError(
            "MS-O322",
            f"the {part} cannot handle this volume: {type(cause).__name__} in {transform}",
            file=bundle.root,
            mend="run `medseg bundle check` on the bundle, and `medseg inspect` on the scan: they must fit together",
        ) from error


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def over(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] = round(time.perf_counter() - start, 4)
