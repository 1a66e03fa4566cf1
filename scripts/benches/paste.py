"""Masks into one label map: instances of 28^3 cells in boxes of 12 to 56 voxels, one thread.

All ways write the same voxels: instance after instance by falling score into a map that lies there, from a probability
of 1/2. medseg interpolates along one axis after the other, in the box's crop; "grid_sample" does it point by point in the
crop (detectron2's way without its CPU shortcut); "full volumes" is torchvision's: each mask is interpolated in its box
and put into a volume of its own, and all volumes are kept until the map is made of them. torchvision itself is not
needed: its `paste_masks_in_image` is `interpolate` and a copy, which stand below. Boxes are of whole voxels, since it
rounds them. 400 volumes of 256^3 would take 27 GB, so that way is left out there.

Memory is the peak of a whole fresh process that writes 400 instances in 256^3, libraries and masks included.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from interleaved import timed
from torch.nn.functional import grid_sample, interpolate

from medseg.inferers.instances.found import Instances
from medseg.inferers.instances.paste import label_map, paste_all

MOST_BYTES = 2**32  # of full volumes


def rows(quick: bool) -> list[dict]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cases = [(6, 64, (6, 20))] if quick else [(60, 192, (12, 56)), (400, 256, (8, 30))]
    try:
        found = [row for case in cases for row in compared(*case, 2 if quick else 5)]
    finally:
        torch.set_num_threads(threads)
    return found + memory(*cases[-1])


def compared(n: int, side: int, sizes: tuple[int, int], repeats: int) -> list[dict]:
    masks, boxes = given(n, side, sizes)
    calls = {name: lambda way=way: way(masks, boxes, (side,) * 3) for name, way in WAYS.items()}
    if 4 * n * side**3 > MOST_BYTES:
        del calls["full volumes"]
    expected = calls["medseg"]()
    for name, call in calls.items():
        if differ := int((call() != expected).sum()):
            raise SystemExit(f"medseg and {name} disagree on {differ} of {int((expected > 0).sum())} voxels")
    name = f"{n} instances of {sizes[0]} to {sizes[1]} voxels, {side}^3"
    return timed(name, calls, repeats)


def given(n: int, side: int, sizes: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Lumpy balls, (N, 28, 28, 28), and their boxes, the surest first."""
    rng = np.random.default_rng(0)
    size = rng.integers(*sizes, (n, 3), endpoint=True)
    low = rng.integers(0, side - size + 1)
    axis = (torch.arange(28) + 0.5) / 14 - 1
    far = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    lumps = torch.from_numpy(rng.standard_normal((n, 1, 7, 7, 7))).float()
    lumps = interpolate(lumps, size=(28,) * 3, mode="trilinear")[:, 0]
    return torch.sigmoid(8 * (0.9 - far) + lumps), torch.from_numpy(np.concatenate([low, low + size], 1)).float()


def medseg(masks: torch.Tensor, boxes: torch.Tensor, shape: tuple) -> np.ndarray:
    crops = paste_all(masks, boxes, shape)
    scores = torch.linspace(1, 0, len(masks))
    return label_map(Instances(boxes, scores, torch.zeros(len(masks)).long(), crops), shape, by="score").ids


def crops_by_grid_sample(masks: torch.Tensor, boxes: torch.Tensor, shape: tuple) -> np.ndarray:
    ids = torch.zeros(shape, dtype=torch.int16)
    for n, (mask, box) in enumerate(zip(masks, boxes.long().tolist(), strict=True)):
        low, high = box[:3], box[3:]
        unit = [2 * (torch.arange(b - a) + 0.5) / (b - a) - 1 for a, b in zip(low, high, strict=True)]
        grid = torch.stack(torch.meshgrid(*unit, indexing="ij")[::-1], -1)
        values = grid_sample(mask[None, None], grid[None], padding_mode="border", align_corners=False)[0, 0]
        here = ids[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        here[(values >= 0.5) & (here == 0)] = n + 1
    return ids.numpy()


def full_volumes(masks: torch.Tensor, boxes: torch.Tensor, shape: tuple) -> np.ndarray:
    volumes = torch.stack([in_full(mask, box, shape) for mask, box in zip(masks, boxes.long().tolist(), strict=True)])
    ids = torch.zeros(shape, dtype=torch.int16)
    for n, volume in enumerate(volumes):
        ids[(volume >= 0.5) & (ids == 0)] = n + 1
    return ids.numpy()


def in_full(mask: torch.Tensor, box: list[int], shape: tuple) -> torch.Tensor:
    low, high = box[:3], box[3:]
    size = [b - a for a, b in zip(low, high, strict=True)]
    volume = torch.zeros(shape)
    volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = interpolate(
        mask[None, None], size=size, mode="trilinear", align_corners=False
    )[0, 0]
    return volume


WAYS = {"medseg": medseg, "grid_sample in crops": crops_by_grid_sample, "full volumes": full_volumes}


def memory(n: int, side: int, sizes: tuple[int, int]) -> list[dict]:
    command = [sys.executable, __file__, str(n), str(side), *map(str, sizes)]
    peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    volumes = n * side**3 / 2**20  # of one byte a voxel: what boolean masks would take
    row = {"case": f"peak memory, {n} instances, {side}^3", "peer": "full boolean masks alone"}
    return [row | {"ratio": volumes / peak, "medseg": peak, "theirs": volumes, "unit": "MiB"}]


if __name__ == "__main__":
    n, side, *sizes = map(int, sys.argv[1:])
    medseg(*given(n, side, (sizes[0], sizes[1])), (side,) * 3)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024)
