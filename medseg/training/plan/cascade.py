"""Coarse to fine: whether a locator is worth while, and how it looks at a scan.

Where structures are small in large scans most windows hold none. A locator then looks at the scan's overview first, and
windows are laid around what it finds (`medseg.inferers.Locate`). It is trained in the same steps as the network, on the
overview of the case that the patch comes from.

The overview's cells are about cubes in space. They are as small as fit into `MOST` cells for the median scan, so that one
look shows it whole; and smaller where half of the thinnest edge of the structures' joint box is smaller, as long as `LOOKS`
looks show the scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.training.plan.choice import Choice, voxels
from medseg.training.plan.choice import mm as in_mm
from medseg.training.plan.sampling import deformation
from medseg.training.plan.template import step
from medseg.training.plan.topology import rounded_up, topology_of
from medseg.transforms.overview import OVERVIEW, WHEREABOUTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.plan.look import Facts
    from medseg.training.plan.topology import Topology, Triple

#: A locator is planned where a median scan takes more windows than this, and the structures' joint box with its margin is
#: at most this share of the scan in nine of ten cases.
MANY_WINDOWS, SMALL_SHARE, MOST_CASES = 20, 0.1, 0.9
#: Cells of a look, and looks at most.
MOST, LOOKS = 48**3, 8
#: Margin around cells that may hold a structure, mm, and at least so many cells.
MARGIN_MM, MARGIN_CELLS = 10.0, 1
WIDTH = 16
#: Overlap of windows, as inference.json has it.
_OVERLAP = 0.5
#: A U-Net of at least two levels takes windows of at least so many cells.
_THINNEST = 8
#: Where several looks are needed, places are cut so much larger than one; shares around structures and elsewhere.
_ROOM, _NEAR, _FAR = 1.25, 2.0, 1.0


@dataclass(frozen=True)
class Cascade:
    """A locator.

    Args:
        factors: voxels of a cell.
        window: cells of a look.
        topology: of its network.
        spacing_mm: of the cells.
        margin: voxels around what it finds.
        several: some scans take more than one look.
    """

    factors: Triple
    window: Triple
    topology: Topology
    spacing_mm: tuple[float, float, float]
    margin: Triple
    several: bool

    def network(self) -> dict[str, Any]:
        """`locator` of `medseg.networks.LocatedUNet`."""
        return {"factors": list(self.factors), "window": list(self.window), **self.topology.arguments()}


def cascade_for(
    facts: Sequence[Facts],
    sizes: np.ndarray,
    spacing_mm: Sequence[float],
    patch: Sequence[int],
    wanted: bool | None = None,
) -> tuple[Cascade | None, Choice]:
    """Decide.

    Args:
        facts: of the training cases.
        sizes: (N, 3) of them on the network's grid.
        spacing_mm: of that grid.
        patch: voxels of a window.
        wanted: what the user asked for; None: by the rule.
    """
    spacing = np.asarray(spacing_mm)
    held = [(one, size) for one, size in zip(facts, sizes, strict=True) if one.labelled_mm is not None]
    edges = np.array([one.labelled_mm for one, _ in held]).reshape(-1, 3)
    found = _locator(np.median(sizes, axis=0), sizes, spacing, np.median(edges, axis=0) if held else None)
    boxes = [
        np.minimum(edge / spacing + 2 * np.asarray(found.margin), size)
        for edge, (_, size) in zip(edges, held, strict=True)
    ]
    shares = [float(np.prod(box) / np.prod(size)) for box, (_, size) in zip(boxes, held, strict=True)]
    share = float(np.quantile(shares, MOST_CASES)) if shares else 1.0
    whole = float(np.median([_windows(size, patch) for size in sizes]))
    inside = float(np.median([_windows(box, patch) for box in boxes])) if boxes else whole
    why = f"the structures' joint box and {in_mm(np.asarray(found.margin) * spacing)} around it are at most {share:.2g} of the scan in"
    why += f" {MOST_CASES:.0%} of the cases, and a median scan takes {whole:.0f} windows, that box {inside:.0f};"
    why += f" a locator is planned up to {SMALL_SHARE:g} and from more than {MANY_WINDOWS} windows on"
    by_rule = whole > MANY_WINDOWS and share <= SMALL_SHARE
    if wanted is not None and wanted != by_rule:
        why = f"as asked for by --{'' if wanted else 'no-'}cascade; {why}"
    if not (by_rule if wanted is None else wanted):
        return None, Choice("cascade", "none: windows over the whole scan", why)
    value = f"a locator on cells of {voxels(found.factors)} voxels ({in_mm(found.spacing_mm)}), {voxels(found.window)} at a time"
    value += f", U-Net of {', '.join(map(str, found.topology.features))} channels; windows where it finds structures"
    return found, Choice("cascade", value, why)


def _locator(median: np.ndarray, sizes: np.ndarray, spacing: np.ndarray, edges_mm: np.ndarray | None) -> Cascade:
    finest, smallest = _cell_mm(median, spacing, MOST * LOOKS), _cell_mm(median, spacing, MOST)
    cell = smallest if edges_mm is None else min(smallest, max(finest, float(edges_mm.min()) / 2))
    factors = _factors(cell, spacing)
    cells_mm = spacing * factors
    look = np.ceil(median / factors)
    while prod(np.maximum(look, _THINNEST)) > MOST:
        look[int(np.argmax(look * cells_mm))] *= 0.95
    look = np.maximum(np.ceil(look), _THINNEST)
    topology = topology_of([int(n) for n in look], cells_mm.tolist(), WIDTH)
    window = rounded_up(look.tolist(), topology.divisor)
    margin = [max(ceil(MARGIN_MM / mm), MARGIN_CELLS * int(f)) for mm, f in zip(spacing, factors, strict=True)]
    several = bool((np.ceil(sizes / factors) > window).any())
    i, j, k = (int(f) for f in factors)
    x, y, z = (float(mm) for mm in cells_mm)
    return Cascade((i, j, k), window, topology, (x, y, z), (margin[0], margin[1], margin[2]), several)


def _cell_mm(median: np.ndarray, spacing: np.ndarray, most: int) -> float:
    """The smallest edge of cells, from two of the finest voxels on, of which `most` hold the median scan."""
    cell = 2.0 * float(spacing.min())
    while np.prod(np.ceil(median / _factors(cell, spacing))) > most:
        cell *= 1.02
    return cell


def _factors(cell_mm: float, spacing: np.ndarray) -> np.ndarray:
    return np.maximum(np.rint(cell_mm / spacing), 1).astype(int)


def _windows(size: np.ndarray, patch: Sequence[int]) -> float:
    """Windows over an image, overlapping by half."""
    step_size = (1 - _OVERLAP) * np.asarray(patch)
    return float(np.prod(np.maximum(np.ceil((size - patch) / step_size), 0) + 1))


def write_cascade(
    configs: dict[str, dict[str, Any]],
    found: Cascade,
    values: Sequence[int],
    regions: Sequence[int] | None,
    *,
    mirror: bool,
) -> None:
    """Write a locator into train.json and inference.json, in place, after everything else.

    Args:
        configs: of the bundle; `network_def` has its locator already.
        found: the locator.
        values: of structures, as label maps hold them on the network's grid.
        regions: label values that sigmoid channels paint; None for classes.
        mirror: scans may be mirrored left-right.
    """
    train, config = configs["train"]["train"], configs["train"]
    steps = train["random_transforms"]
    ending = step(steps, "EnsureTyped")
    shaken = _shaken(steps, found, mirror=mirror)
    steps[steps.index(ending) : steps.index(ending)] = shaken
    factors = "@network_def#locator#factors"
    made = {"_target_": "medseg.transforms.Overviewd", "factors": factors, "values": sorted(values)}
    steps.insert(0, made)  # before anything random, so that it is cached
    ending["keys"] = [*ending["keys"], OVERVIEW, WHEREABOUTS]
    train["trainer"]["prepare_batch"] = {"_target_": "medseg.training.LocatedBatch"}
    config["loss"] = {
        "_target_": "medseg.training.LocatedLoss",
        "loss": config["loss"],
        "locator": {"_target_": "DiceCELoss", "sigmoid": True, "batch": True},
    }
    locate = {"_target_": "medseg.inferers.Locate", "margin": list(found.margin)}
    configs["inference"]["inferer"]["locate"] = locate
    config["validate"]["inferer"]["inferer"] = {
        "_target_": "medseg.inferers.SlidingWindowInferer",
        "roi_size": "@patch_size",
        "overlap": _OVERLAP,
        "mode": "gaussian",
        "precision": "fp32",
        **({} if regions is None else {"regions": list(regions)}),
        "locate": locate,
    }


def _shaken(steps: list[dict[str, Any]], found: Cascade, *, mirror: bool) -> list[dict[str, Any]]:
    """What is done to overviews at random: as to patches, but by itself."""
    both = [OVERVIEW, WHEREABOUTS]
    out: list[dict[str, Any]] = []
    if found.several:
        out.append(
            {
                "_target_": "RandCropByPosNegLabeld",
                "keys": both,
                "label_key": WHEREABOUTS,
                "spatial_size": [ceil(_ROOM * n) for n in found.window],
                "pos": _NEAR,
                "neg": _FAR,
                "num_samples": 1,
                "allow_smaller": True,
            }
        )
    how, _ = deformation(found.window, found.spacing_mm)
    keys = {"keys": both, "label_keys": WHEREABOUTS, "spatial_size": list(found.window)}
    out.append({**step(steps, "RandDeformd"), **how, **keys})
    if mirror:
        out.append({"_target_": "RandFlipd", "keys": both, "prob": 0.5, "spatial_axis": 0})
    grey = ("RandAdjustContrastd", "RandScaleIntensityd", "RandShiftIntensityd")
    return [*out, *({**step(steps, name), "keys": OVERVIEW} for name in grey)]
