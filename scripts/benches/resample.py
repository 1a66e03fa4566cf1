"""Resampling of a 512 x 512 x 300 CT to 1.5 mm, of 20 labels, and of logits, against those who do it today."""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np
from peers import NNUNET, peer

from medseg.geometry import Grid
from medseg.resample import labels_from_logits, resample_image, resample_labels

if TYPE_CHECKING:
    from collections.abc import Callable

SPACING_MM = (0.78125, 0.78125, 1.5)
WANTED_MM = (1.5, 1.5, 1.5)


def rows(quick: bool) -> list[dict]:
    warnings.simplefilter("ignore")
    shape = (96, 96, 40) if quick else (512, 512, 300)
    repeats = 2 if quick else 5
    source = Grid(shape, np.diag([*SPACING_MM, 1.0]))
    return [
        *images(source, repeats),
        *labels(source, min(repeats, 3)),
        *logits((24, 24, 20) if quick else (133, 133, 150), repeats),
    ]


def images(source: Grid, repeats: int) -> list[dict]:
    import SimpleITK as sitk  # noqa: N813
    import torch
    from monai.data import MetaTensor
    from monai.transforms import Spacing
    from scipy.ndimage import affine_transform

    scan = np.asfortranarray(ct(source.shape))  # as a NIfTI file lies in memory
    loaded = MetaTensor(torch.from_numpy(scan.astype(np.float32))[None], affine=torch.tensor(source.affine))
    spacing = Spacing(pixdim=WANTED_MM)
    theirs = spacing(loaded)  # MONAI's grid is everyone's
    target = Grid(tuple(theirs.shape[1:]), theirs.affine.numpy())
    scale = np.array(WANTED_MM) / SPACING_MM
    offset = source.to_index(target.affine[:3, 3])
    itk_scan = sitk.GetImageFromArray(scan.transpose(2, 1, 0))
    itk_scan.SetSpacing(SPACING_MM)
    itk = {"linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline}

    def simpleitk(order: str) -> sitk.Image:
        origin = [float(x) for x in target.affine[:3, 3]]
        direction = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
        return sitk.Resample(
            itk_scan, target.shape, sitk.Transform(), itk[order], origin, WANTED_MM, direction, 0.0, sitk.sitkFloat32
        )

    def scipy(order: str) -> np.ndarray:
        n = {"linear": 1, "cubic": 3}[order]
        return affine_transform(scan, scale, offset, target.shape, np.float32, order=n, mode="mirror")

    def ours(order: str) -> np.ndarray:
        return resample_image(scan, source, target, order=order)

    agree("image, MONAI Spacing", ours("linear"), theirs[0].numpy(), 0.05)
    agree("image, SimpleITK", ours("linear"), sitk.GetArrayFromImage(simpleitk("linear")).transpose(2, 1, 0), 0.05)
    agree("image, scipy", ours("linear"), scipy("linear"), 0.05)
    agree("cubic, scipy", ours("cubic"), scipy("cubic"), 0.05)
    case = f"{'x'.join(map(str, source.shape))} int16 -> {'x'.join(map(str, target.shape))}"
    return [
        *timed(
            f"image linear, {case}",
            lambda: ours("linear"),
            {
                "MONAI Spacing (given float32)": lambda: spacing(loaded),
                "SimpleITK": lambda: simpleitk("linear"),
                "scipy": lambda: scipy("linear"),
            },
            repeats,
        ),
        *timed(
            f"image cubic B-spline, {case}",
            lambda: ours("cubic"),
            {"SimpleITK": lambda: simpleitk("cubic"), "scipy": lambda: scipy("cubic")},
            min(repeats, 3),
        ),
    ]


def labels(source: Grid, repeats: int) -> list[dict]:
    module = peer("nnunetv2.preprocessing.resampling.default_resampling", *NNUNET)
    if module is None:
        print("nnunetv2 cannot be installed here: no label row", file=sys.stderr)
        return []
    shape = tuple(round(n * have / want) for n, have, want in zip(source.shape, SPACING_MM, WANTED_MM, strict=True))
    ratio = np.array(source.shape) / shape
    affine = np.diag([*(ratio * SPACING_MM), 1.0])
    affine[:3, 3] = (ratio - 1) / 2 * SPACING_MM  # nnU-Net keeps the field of view, edge to edge
    target = Grid(shape, affine)
    anatomy = organs(source.shape, 20)

    def nnunet() -> np.ndarray:
        return module.resample_data_or_seg_to_shape(
            anatomy[None], shape, SPACING_MM, WANTED_MM, is_seg=True, order=1, order_z=0, force_separate_z=False
        )[0]

    def ours() -> np.ndarray:
        return resample_labels(anatomy, source, target)

    same = ours() == nnunet()
    if same.mean() < 0.999:
        raise SystemExit(f"medseg and nnU-Net agree on {100 * same.mean():.2f} % of the labels only")
    case = f"20 labels, {'x'.join(map(str, source.shape))} uint8 -> {'x'.join(map(str, shape))}"
    return timed(case, ours, {"nnU-Net 2.8.1 resample_data_or_seg_to_shape": nnunet}, repeats)


def logits(shape: tuple[int, int, int], repeats: int) -> list[dict]:
    import torch

    wide = (round(shape[0] * 1.92), round(shape[1] * 1.92), shape[2])
    ratio = np.array(shape) / wide
    affine = np.diag([*ratio, 1.0])
    affine[:3, 3] = (ratio - 1) / 2
    source, target = Grid(shape, np.eye(4)), Grid(wide, affine)
    scores = np.random.default_rng(0).standard_normal((21, *shape), np.float32)

    def interpolate() -> np.ndarray:
        full = torch.nn.functional.interpolate(torch.from_numpy(scores)[None], wide, mode="trilinear")
        return full.argmax(1)[0].to(torch.uint8).numpy()

    def ours() -> np.ndarray:
        return labels_from_logits(scores, source, target)

    if (ours() == interpolate()).mean() < 0.9999:
        raise SystemExit("medseg and torch find different labels")
    case = f"logits to labels, 21 x {'x'.join(map(str, shape))} -> {'x'.join(map(str, wide))}"
    return timed(case, ours, {"torch interpolate + argmax": interpolate}, repeats)


def timed(case: str, ours: Callable, theirs: dict[str, Callable], repeats: int) -> list[dict]:
    """Medians of interleaved repeats; every call has run once before (compilation, warm memory)."""
    calls = {"medseg": ours, **theirs}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    ms = {name: 1000 * statistics.median(times) for name, times in seconds.items()}
    return [
        {"case": case, "peer": name, "ratio": ms[name] / ms["medseg"], "medseg": ms["medseg"], "theirs": ms[name]}
        | {"unit": "ms"}
        for name in theirs
    ]


def agree(what: str, a: np.ndarray, b: np.ndarray, atol: float) -> None:
    inner = (slice(2, -2),) * 3  # at the border each has its own rule
    worst = np.abs(a[inner] - b[inner]).max()
    if not worst <= atol:
        raise SystemExit(f"{what}: results differ by {worst:.3g}")


def ct(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 2000, shape).astype(np.int16)


def organs(shape: tuple[int, int, int], n: int) -> np.ndarray:
    """n ellipsoids side by side, some cut by others."""
    rng = np.random.default_rng(0)
    found = np.zeros(shape, np.uint8)
    axes = np.ogrid[tuple(slice(0, m) for m in shape)]
    for value in range(1, n + 1):
        centre, radius = rng.uniform(0.2, 0.8, 3) * shape, rng.uniform(0.05, 0.14, 3) * shape
        found[sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, radius, strict=True)) < 1] = value
    return found
