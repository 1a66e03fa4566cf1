"""Augmentation of a 96^3 patch with its labels, one thread: batchgeneratorsv2 (nnU-Net's) and MONAI.

"compiled" is what medseg does on a CPU; "torch" is the same without a compiler, as it runs on a GPU. All ways draw anew
each time, at strengths that are alike. The pipeline is the list in docs/augmentation.md, and nnU-Net's own.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import monai.transforms as mt
import numpy as np
import torch
from interleaved import timed
from monai.bundle import ConfigParser
from peers import peer
from scipy.ndimage import gaussian_filter

from medseg import transforms
from medseg.transforms.warp import deform_batch

if TYPE_CHECKING:
    from collections.abc import Callable

PINNED = ("batchgeneratorsv2==0.3.6", "batchgenerators==0.25.5", "fft-conv-pytorch==1.2.0")
PAGE = Path(__file__).parents[2] / "docs" / "augmentation.md"
BOTH = ["image", "label"]
TURN_DEG, ZOOM = 20.0, (0.8, 1.25)


def rows(quick: bool = False) -> list[dict]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _rows(32 if quick else 96, 1 if quick else 9)
    finally:
        torch.set_num_threads(threads)


def _rows(n: int, repeats: int) -> list[dict]:
    image, label = scene(n)
    nnunet = peer("batchgeneratorsv2.transforms.spatial.spatial", *PINNED) is not None
    found = deformation(image, label, nnunet, repeats)
    found += pipelines(image, label, nnunet, repeats, patches=4 if repeats == 1 else 40)
    return found + intensities(image, nnunet, repeats)


def scene(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, n, n, n) an image, and labels 0, 1, 2 in lumps."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.standard_normal((n, n, n)), n / 12)
    label = np.digitize(smooth, np.quantile(smooth, [0.8, 0.92])).astype(np.uint8)
    image = label + rng.normal(0, 0.3, label.shape)
    return torch.from_numpy(image.astype(np.float32))[None], torch.from_numpy(label)[None]


def deformation(image: torch.Tensor, label: torch.Tensor, nnunet: bool, repeats: int) -> list[dict]:
    n = image.shape[1]
    data = {"image": image, "label": label}
    cut = transforms.RandDeformd(BOTH, "label", (n, n, n), prob=1.0, rotate_deg=TURN_DEG, scale=ZOOM, elastic_mm=3.0)

    def in_torch():
        return deform_batch(image[None], label[None], [cut.choose((n, n, n), np.ones(3))])

    radians = float(np.radians(TURN_DEG))
    monai = mt.Rand3DElasticd(
        BOTH, sigma_range=(5, 8), magnitude_range=(50, 150), prob=1.0, rotate_range=(radians,) * 3,
        scale_range=((-0.2, 0.25),) * 3, spatial_size=(n, n, n), mode=("bilinear", "nearest"), padding_mode="zeros",
    )  # fmt: skip
    floats = {"image": image, "label": label.float()}
    peers: dict[str, Callable] = {"MONAI Rand3DElasticd": lambda: monai(floats)}
    if nnunet:
        from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

        theirs = SpatialTransform(
            (n, n, n), 0, False, p_elastic_deform=1, elastic_deform_scale=(0.08, 0.15), elastic_deform_magnitude=(0, 6),
            p_rotation=1, rotation=(-radians, radians), p_scaling=1, scaling=ZOOM, p_synchronize_scaling_across_axes=1,
        )  # fmt: skip
        peers["batchgeneratorsv2 SpatialTransform"] = lambda: theirs(image=image, segmentation=label)
    case = f"elastic + affine, image + label {n}^3"
    # One round for all, so that both of ours meet the same moments of the machine.
    shared = timed(case, {"medseg": lambda: cut(data), "torch": in_torch, **peers}, repeats)
    own = next(row for row in shared if row["peer"] == "torch")
    found = []
    for name, ms in (("compiled", own["medseg"]), ("torch", own["theirs"])):
        found += [
            {**row, "case": f"{case}, {name}", "medseg": ms, "ratio": row["theirs"] / ms}
            for row in shared
            if row["peer"] != "torch"
        ]
    return found


def nnunet_like(patch: int) -> list:
    """The list in docs/augmentation.md, built."""
    text = re.search(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    sides = [{"value": 1, "name": "left", "mirror": "right"}, {"value": 2, "name": "right", "mirror": "left"}]
    parser = ConfigParser({"transforms": json.loads(text), "patch_size": [patch] * 3, "labels": sides})
    return parser.get_parsed_content("transforms")


def pipelines(image: torch.Tensor, label: torch.Tensor, nnunet: bool, repeats: int, patches: int) -> list[dict]:
    n = image.shape[1]
    ours, monai = mt.Compose(nnunet_like(n)).set_random_state(0), mt.Compose(in_monai(n)).set_random_state(0)
    data, floats = {"image": image, "label": label}, {"image": image, "label": label.float()}

    def many(one: Callable) -> Callable:
        return lambda: [one() for _ in range(patches)][-1]

    ways = {"medseg": many(lambda: ours(data)), "MONAI 1.6, the same steps": many(lambda: monai(floats))}
    if nnunet:
        theirs = in_batchgenerators(n)
        np.random.seed(0)  # noqa: NPY002 - its draws come from numpy's global generator
        torch.manual_seed(0)
        ways["batchgeneratorsv2, nnU-Net's steps"] = many(
            lambda: theirs(image=image.clone(), segmentation=label.clone())
        )
    found = timed(f"nnU-Net-like pipeline, a patch of {n}^3", ways, repeats)
    return [{**row, "medseg": row["medseg"] / patches, "theirs": row["theirs"] / patches} for row in found]


def in_monai(n: int) -> list:
    turn = float(np.radians(30))
    affine = {
        "spatial_size": (n, n, n),
        "mode": ("bilinear", "nearest"),
        "padding_mode": "zeros",
    }
    return [
        mt.RandAffined(BOTH, prob=0.2, rotate_range=(turn,) * 3, **affine),
        mt.RandAffined(BOTH, prob=0.2, scale_range=((-0.3, 0.4),) * 3, **affine),
        mt.RandGaussianNoised("image", prob=0.1, std=0.1),
        mt.RandGaussianSmoothd("image", prob=0.1, sigma_x=(0.5, 1), sigma_y=(0.5, 1), sigma_z=(0.5, 1)),
        mt.RandScaleIntensityd("image", prob=0.15, factors=0.25),
        mt.RandScaleIntensityFixedMeand("image", prob=0.15, factors=0.25, preserve_range=True),
        mt.RandSimulateLowResolutiond("image", prob=0.125, zoom_range=(0.5, 1)),
        mt.RandAdjustContrastd("image", prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
        mt.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        *(mt.RandFlipd(BOTH, prob=0.5, spatial_axis=axis) for axis in range(3)),
    ]


def in_batchgenerators(n: int):
    """nnUNetTrainer.get_training_transforms of nnU-Net 2.8.1 for 3D, without what follows augmentation."""
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    turn = float(np.radians(30))
    quarter, bend = BGContrast((0.75, 1.25)), BGContrast((0.7, 1.5))
    return ComposeTransforms(
        [
            SpatialTransform(
                (n, n, n), 0, False, p_elastic_deform=0, p_rotation=0.2, rotation=(-turn, turn), p_scaling=0.2,
                scaling=(0.7, 1.4), p_synchronize_scaling_across_axes=1,
            ),
            RandomTransform(GaussianNoiseTransform((0, 0.1), 1, True), 0.1),
            RandomTransform(GaussianBlurTransform((0.5, 1.0), False, False, 0.5, True), 0.2),
            RandomTransform(MultiplicativeBrightnessTransform(quarter, False, 1), 0.15),
            RandomTransform(ContrastTransform(quarter, True, False, 1), 0.15),
            RandomTransform(SimulateLowResolutionTransform((0.5, 1), False, True, None, None, 0.5), 0.25),
            RandomTransform(GammaTransform(bend, 1, False, 1, 1), 0.1),
            RandomTransform(GammaTransform(bend, 0, False, 1, 1), 0.3),
            MirrorTransform((0, 1, 2)),
        ]
    )  # fmt: skip


def intensities(image: torch.Tensor, nnunet: bool, repeats: int) -> list[dict]:
    """Each change of intensity by itself, always applied."""
    sigma = {f"sigma_{axis}": (0.5, 1.0) for axis in "xyz"}
    one = {"prob": 1.0}
    pairs = {
        "noise": (transforms.RandNoised("image", **one), mt.RandGaussianNoised("image", std=0.1, **one)),
        "blur": (transforms.RandBlurd("image", **one), mt.RandGaussianSmoothd("image", **sigma, **one)),
        "contrast": (
            transforms.RandContrastd("image", **one),
            mt.RandScaleIntensityFixedMeand("image", factors=0.25, preserve_range=True, **one),
        ),
        "gamma": (
            transforms.RandGammad("image", **one),
            mt.RandAdjustContrastd("image", gamma=(0.7, 1.5), retain_stats=True, **one),
        ),
        "low resolution": (
            transforms.RandLowResolutiond("image", **one),
            mt.RandSimulateLowResolutiond("image", zoom_range=(0.5, 1.0), **one),
        ),
        "bias field": (transforms.RandBiasd("image", **one), mt.RandBiasFieldd("image", **one)),
    }
    theirs = in_batchgenerators(image.shape[1]).transforms if nnunet else []
    alike = dict(zip(("noise", "blur", "brightness", "contrast", "low resolution", "gamma"), theirs[1:7], strict=False))
    found = []
    for name, (ours, monai) in pairs.items():
        ways = {"medseg": _on(ours, image), f"MONAI {type(monai).__name__}": _on(monai, image)}
        if name in alike:
            always = alike[name].transform
            always.p_per_channel = 1.0
            ways[f"batchgeneratorsv2 {type(always).__name__}"] = lambda always=always: always(image=image.clone())
        found += timed(f"{name}, image {image.shape[1]}^3", ways, repeats)
    return found


def _on(transform, image: torch.Tensor) -> Callable:
    data = {"image": image}
    return lambda: transform(data)
