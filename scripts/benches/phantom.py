"""How good are the shipped phantom weights, and what do mask suppression, points, dropout and tiles do to them?

Volumes that no training has seen, made here. A row compares a figure with its goal or with the other way of doing it; a
ratio > 1 means reached, or better. MEDSEG_BUNDLE names another bundle or run than the shipped one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from phantoms import make  # noqa: E402

from medseg.boxes.crops import Crop, crop_iou_matrix, crops_of_instances  # noqa: E402
from medseg.bundle.load import load_bundle  # noqa: E402
from medseg.inferers.dropout import McDropout  # noqa: E402
from medseg.inferers.instances.agreement import agreement  # noqa: E402
from medseg.inferers.instances.association import seen_in  # noqa: E402
from medseg.inferers.instances.dropout import Dropped  # noqa: E402
from medseg.inferers.instances.found import INSIDE, Instances  # noqa: E402
from medseg.inferers.instances.merge import at_least, merge  # noqa: E402
from medseg.inferers.instances.of_network import instances_of  # noqa: E402
from medseg.inferers.instances.samples import samples_of  # noqa: E402
from medseg.inferers.instances.tiles import tiles, views  # noqa: E402
from medseg.metrics.surface import surface_metrics  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

# Seeds that `scripts/phantom` gives to no training set of seed 0 to 9.
FIRST_SEED = 5_000_000
PRESETS = ("shapes", "crowded", "parallel", "border", "tiny")
SAMPLES = 10
TRUE_IOU = 0.5
LARGE_VOXELS = 28


def rows(quick: bool = False) -> list[dict]:
    network, inferer = opened()
    count = 2 if quick else 20
    out = suppression(network, inferer, count)
    out += doubt(network, inferer, max(1, count // 2))
    out += points(network, inferer, count)
    return out + shifted(network, inferer, 1 if quick else 4)


def opened():
    """The network and the inferer of the bundle."""
    bundle = load_bundle(os.environ.get("MEDSEG_BUNDLE", "phantom_instance_segmentation"))
    return bundle.network.eval(), bundle.inferer


def volumes(preset: str, count: int, size: int = 48):
    """(image (1, 1, D, H, W), reference map) of fresh volumes of 1 mm."""
    for n in range(count):
        made = make(preset, FIRST_SEED + n, size)
        image = torch.from_numpy(made.image)
        yield ((image - image.mean()) / image.std())[None, None], made.instances.astype(np.int64)


# --- suppression by mask or by box


def suppression(network, inferer, count: int) -> list[dict]:
    """Recall of parallel ellipsoids whose boxes overlap by 0.4 to 0.6."""
    before, out = network.box_nms, []
    listed = list(volumes("parallel", count))
    ours = recall(listed, lambda image: inferer.instances(image, network))
    for threshold in (0.3, 0.5):

        def boxes_alone(image, threshold=threshold):
            network.box_nms = threshold
            with torch.no_grad(), inferer.computing(image):
                found = instances_of(network(image)[0], image.shape[2:], iou=None, iom=None)
            return at_least(found, inferer.min_score)

        theirs = recall(listed, boxes_alone)
        network.box_nms = before
        case = f"parallel: recall at mask IoU {TRUE_IOU}, suppression by mask"
        out.append(row(case, f"hard box NMS at {threshold}", ours, theirs))
        out.append(row(f"{case}, points more", "goal", 100 * (ours - theirs), 10.0))
    return out


def recall(listed, find) -> float:
    hits = total = 0
    for image, ref in listed:
        _, truth = crops_of_instances(torch.from_numpy(ref))
        iou = crop_iou_matrix(truth, crops(find(image)))
        hits += int((iou.amax(1) >= TRUE_IOU).sum()) if iou.shape[1] else 0
        total += len(truth)
    return hits / total


def crops(found: Instances) -> list[Crop]:
    return [Crop(mask.low, (mask.probability >= INSIDE).cpu()) for mask in found.masks]


# --- does doubt tell true from false?


def doubt(network, inferer, count: int) -> list[dict]:
    """AUROC of true against false detections of Monte Carlo dropout in the heads, all presets pooled."""
    source = Dropped(McDropout(network, SAMPLES), inferer.mask_iou, inferer.mask_iom)
    frequency, score, true = [], [], []
    for preset in PRESETS:
        for image, ref in volumes(preset, count):
            told = agreement(samples_of(image, inferer, source, network), (1.0, 1.0, 1.0))
            _, truth = crops_of_instances(torch.from_numpy(ref))
            iou = crop_iou_matrix([one.voxels for one in seen_in(told.instances)], truth)
            frequency += told.frequency.tolist()
            score += told.instances.scores.tolist()
            true += (iou.amax(1) >= TRUE_IOU).tolist()
    false = len(true) - sum(true)
    case = f"AUROC of true against false detections ({sum(true)} and {false}), {SAMPLES} samples"
    return [
        row(f"{case}: detection frequency", "goal", auroc(frequency, true), 0.85),
        row(f"{case}: mean score", "goal", auroc(score, true), 0.85),
    ]


def auroc(values: Sequence[float], true: Sequence[bool]) -> float:
    """Share of (true, false) pairs in which the true one has the larger value; equal ones count half."""
    x, y = np.array(values), np.array(true, bool)
    if y.all() or not y.any():
        return float("nan")
    above = x[y][:, None] - x[~y][None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


# --- masks with and without single points


def points(network, inferer, count: int) -> list[dict]:
    """HD95 and boundary IoU of matched instances, refined by points or as the mask head leaves them."""
    head, found = network.point_head, {}
    if head is None:
        return []
    for name, one in {"refined": head, "mask head alone": None}.items():
        network.point_head = one
        found[name] = [
            outlines(inferer.instances(image, network), ref) for p in PRESETS for image, ref in volumes(p, count // 2)
        ]
    network.point_head = head
    out = []
    for what, keep in {"all": lambda n: n > 0, f"sides over {LARGE_VOXELS} voxels": lambda n: n > LARGE_VOXELS}.items():
        # pairs that both ways found, so that both are measured on the same instances
        both = [
            (a[n], b[n])
            for a, b in zip(found["refined"], found["mask head alone"], strict=True)
            for n in a.keys() & b.keys()
            if keep(a[n]["side"])
        ]
        if not both:
            continue
        for key, less in {"hd95": True, "boundary_iou": False, "iou": False}.items():
            ours, theirs = (float(np.mean([pair[n][key] for pair in both])) for n in (0, 1))
            out.append(
                row(f"masks refined by points: {key}, {what} ({len(both)})", "mask head alone", ours, theirs, less=less)
            )
    return out


def outlines(found: Instances, ref: np.ndarray) -> dict[int, dict[str, float]]:
    """Id in the reference -> how well the instance that covers it best is outlined."""
    ids, truth = crops_of_instances(torch.from_numpy(ref))
    own = crops(found)
    iou = crop_iou_matrix(truth, own)
    out = {}
    for n, number in enumerate(ids.tolist()):
        if not own or float(iou[n].max()) < TRUE_IOU:
            continue
        pred, best = np.zeros(ref.shape, np.uint8), own[int(iou[n].argmax())]
        where = tuple(slice(a, a + s) for a, s in zip(best.low, best.mask.shape, strict=True))
        pred[where] = best.mask.numpy()
        told = surface_metrics(
            pred, (ref == number).astype(np.uint8), spacing_mm=(1, 1, 1), definition="surfel", tolerances_mm=(1,)
        )[1]
        out[number] = {
            "hd95": told.percentiles_mm[95],
            "boundary_iou": told.boundary_iou[1],
            "iou": float(iou[n].max()),
            "side": max(truth[n].mask.shape),
        }
    return out


# --- does the grid of tiles matter?


def shifted(network, inferer, count: int) -> list[dict]:
    """Volumes of 96 mm in tiles of 64 and in tiles that begin elsewhere."""
    same, least = [], []
    for image, _ in volumes("shapes", count, 96):
        plain = tiled(image, network, inferer, 0)
        for shift in (8, 16):
            moved = tiled(image, network, inferer, shift)
            iou = crop_iou_matrix(crops(plain), crops(moved))
            same.append(len(plain) == len(moved))
            least.append(float(torch.minimum(iou.amax(0).min(), iou.amax(1).min())))
    return [
        row("tiles shifted: share of volumes with the same count", "goal", float(np.mean(same)), 1.0),
        row("tiles shifted: least mask IoU of an instance", "goal", min(least), 0.99),
        row("tiles shifted: mean of the least mask IoU of a volume", "goal", float(np.mean(least)), 0.99),
    ]


@torch.no_grad()
def tiled(image, network, inferer, shift: int) -> Instances:
    def one(tile):
        with inferer.computing(tile):
            return instances_of(network(tile)[0], tile.shape[2:], iou=inferer.mask_iou, iom=inferer.mask_iom)

    over = tiles(image.shape[2:], 64, 40, stride=network.divisor, shift=shift)
    return at_least(merge(list(views(image, one, over))), inferer.min_score)


def row(case: str, peer: str, ours: float, theirs: float, *, less: bool = False) -> dict:
    over, under = (theirs, ours) if less else (ours, theirs)
    ratio = over / under if under else float("inf")
    return {"case": case, "peer": peer, "ratio": ratio, "medseg": ours, "theirs": theirs, "unit": ""}
