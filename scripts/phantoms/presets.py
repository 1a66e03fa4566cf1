"""The presets: what is drawn, how large, how many, in which noise.

| preset | instances | image |
|---|---|---|
| cubes | one axis-aligned cube, full or with a channel along axis 0 (nnDetection's toy) | uniform noise, + 0.4 inside, cut at 1 |
| shapes | ellipsoids, cuboids, tubes, turned at random, apart | texture, blur and Gaussian noise |
| crowded | the same, smaller and packed so that they touch | as shapes |
| anisotropic | the same on voxels of 1 x 1 x 4 mm | as shapes |
| parallel | rows of parallel ellipsoids at 45 degrees, neighbours' box IoU 0.4 to 0.6 | as shapes |
| border | ellipsoids, cuboids, tubes, each cut by a face of the volume | as shapes |
| tiny | ellipsoids and cuboids with sides of 3 to 5 voxels | as shapes, brighter |
| mixed | each volume is one of the above but cubes | |

All but `cubes` share one class table: 0 ellipsoid, 1 cuboid, 2 tube.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from phantoms.parallel import add_row
from phantoms.scene import CUT, Scene, cut, fill, inside, on_voxels
from phantoms.solids import Solid, any_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SHAPES = ("ellipsoid", "cuboid", "tube")
CUBES = ("cube", "cube with channel")
#: Values are rounded to multiples of this, so that the last bits of a platform's arithmetic do not matter.
STEP = 1 / 1024


@dataclass(frozen=True, eq=False)
class Phantom:
    """A volume with known instances.

    Args:
        image: (D, H, W) float32, about 0 to 1.
        instances: (D, H, W) uint16, 0 background, else the instance's id (1, 2, ...).
        classes: id -> class index from 0.
        spacing_mm: voxel size along each axis.
        names: of the classes.
    """

    image: np.ndarray
    instances: np.ndarray
    classes: Mapping[int, int]
    spacing_mm: tuple[float, float, float]
    names: tuple[str, ...]


def make(
    preset: str, seed: int, size: int | tuple[int, int, int] = 48, *, objects: tuple[int, int] | None = None
) -> Phantom:
    """One volume; the same arguments give the same bytes.

    Args:
        preset: a key of `PRESETS`.
        seed: 0 or more.
        size: voxels along each axis; one number is the field of view in mm along every axis, so that
            `anisotropic` has a quarter of the slices.
        objects: least and most instances (for `parallel`: rows); None: the preset's own number, which grows with
            the volume. Where there is no room for all, there are fewer.

    Raises:
        ValueError: no such preset, or a volume in which no instance has room.
    """
    if preset not in PRESETS:
        msg = f"no preset {preset!r}; there are {', '.join(PRESETS)}"
        raise ValueError(msg)
    rng = np.random.default_rng([zlib.crc32(preset.encode()), seed])
    return PRESETS[preset](rng, size, objects)


def _cubes(rng: np.random.Generator, size: int | tuple[int, int, int], objects: tuple[int, int] | None) -> Phantom:
    shape, spacing = _grid(size, 1.0)
    least, most = objects or (1, 1)
    # nnDetection draws sides of 16 to 31 voxels and walls of 4 in 256^3; smaller volumes have smaller cubes.
    longest = max(min(31, round(0.42 * min(shape))), 3)
    shortest = max(min(16, longest // 2), 3)
    wall = max(1, round(shortest / 4))
    scene = Scene(shape, spacing, gap=1)

    def draw() -> tuple[Solid, int]:
        side = int(rng.integers(shortest, longest + 1))
        kind = int(rng.integers(2))
        bore = (side - 2 * wall) / side
        return Solid("channelled" if kind else "cuboid", np.full(3, side / 2), np.eye(3), bore), kind

    fill(rng, scene, draw, _count(rng, (least, most)), where=on_voxels)
    image = rng.random(shape) + 0.4 * (scene.instances > 0)
    return _phantom(scene, np.clip(image, 0, 1), CUBES)


def _shapes(
    rng: np.random.Generator,
    size: int | tuple[int, int, int],
    objects: tuple[int, int] | None,
    *,
    per_64: tuple[int, int],
    base_mm: float,
    slice_mm: float = 1.0,
    gap: int = 1,
    pack: int = 1,
    cut_off: bool = False,
) -> Phantom:
    shape, spacing = _grid(size, slice_mm)
    scene = Scene(shape, spacing, gap)
    count = _count(rng, objects or _by_volume(per_64, scene.field_mm))
    how = {"where": cut, "seen": CUT} if cut_off else {"where": inside}
    fill(rng, scene, partial(_any_shape, rng, base_mm), count, pack=pack, **how)
    return _phantom(scene, _textured(rng, scene, (0.25, 0.5)), SHAPES)


def _any_shape(rng: np.random.Generator, base_mm: float) -> tuple[Solid, int]:
    kind = int(rng.integers(3))
    half = base_mm * rng.uniform(0.5, 2.0, 3)
    if SHAPES[kind] == "tube":  # the channel must be wider than a voxel, and a tube longer than wide
        half = base_mm * np.array([rng.uniform(1.0, 2.0), *np.full(2, rng.uniform(0.8, 1.2))])
    return Solid(SHAPES[kind], half, any_turn(rng), bore=0.45), kind


def _parallel(rng: np.random.Generator, size: int | tuple[int, int, int], objects: tuple[int, int] | None) -> Phantom:
    shape, spacing = _grid(size, 1.0)
    scene = Scene(shape, spacing, gap=1)
    for _ in range(_count(rng, objects or _by_volume((3, 6), scene.field_mm))):
        add_row(rng, scene, 4, SHAPES.index("ellipsoid"))
    return _phantom(scene, _textured(rng, scene, (0.25, 0.5)), SHAPES)


def _tiny(rng: np.random.Generator, size: int | tuple[int, int, int], objects: tuple[int, int] | None) -> Phantom:
    shape, spacing = _grid(size, 1.0)
    scene = Scene(shape, spacing, gap=2)

    def draw() -> tuple[Solid, int]:
        kind = int(rng.integers(2))
        half = rng.integers(3, 6, 3) / 2
        return Solid(SHAPES[kind], half, np.eye(3)), kind

    fill(rng, scene, draw, _count(rng, objects or _by_volume((10, 20), scene.field_mm)), where=on_voxels)
    return _phantom(scene, _textured(rng, scene, (0.4, 0.6)), SHAPES)


def _mixed(rng: np.random.Generator, size: int | tuple[int, int, int], objects: tuple[int, int] | None) -> Phantom:
    kinds = [name for name in PRESETS if name not in ("cubes", "mixed")]
    return PRESETS[kinds[int(rng.integers(len(kinds)))]](rng, size, objects)


PRESETS: dict[str, Callable] = {
    "cubes": _cubes,
    "shapes": partial(_shapes, per_64=(6, 14), base_mm=5.0),
    "crowded": partial(_shapes, per_64=(110, 160), base_mm=3.2, gap=0, pack=6),
    "anisotropic": partial(_shapes, per_64=(4, 9), base_mm=6.5, slice_mm=4.0),
    "parallel": _parallel,
    "border": partial(_shapes, per_64=(8, 14), base_mm=5.0, cut_off=True),
    "tiny": _tiny,
    "mixed": _mixed,
}


def _grid(size: int | tuple[int, int, int], slice_mm: float) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    if isinstance(size, int):
        return (size, size, max(1, round(size / slice_mm))), (1.0, 1.0, slice_mm)
    d, h, w = size
    return (d, h, w), (1.0, 1.0, slice_mm)


def _by_volume(per_64: tuple[int, int], field_mm: np.ndarray) -> tuple[int, int]:
    share = float(np.prod(field_mm)) / 64**3
    return max(1, round(per_64[0] * share)), max(1, round(per_64[1] * share))


def _count(rng: np.random.Generator, objects: tuple[int, int]) -> int:
    return int(rng.integers(objects[0], objects[1] + 1))


def _textured(rng: np.random.Generator, scene: Scene, contrast: tuple[float, float]) -> np.ndarray:
    """Uneven background at 0.3, instances of differing brightness, blurred by 0.5 mm, with Gaussian noise."""
    bright = np.concatenate([[0.0], rng.uniform(*contrast, len(scene.classes))])
    blur = 0.5 / scene.spacing_mm
    uneven = ndimage.gaussian_filter(rng.standard_normal(scene.shape), 6 / scene.spacing_mm, mode="wrap")
    uneven *= 0.05 / max(float(uneven.std()), 1e-9)
    signal = 0.3 + uneven + ndimage.gaussian_filter(bright[scene.instances], blur, mode="nearest")
    return signal + 0.08 * rng.standard_normal(scene.shape)


def _phantom(scene: Scene, image: np.ndarray, names: tuple[str, ...]) -> Phantom:
    if not scene.classes:
        msg = f"no instance has room in {scene.shape} voxels; take a larger size"
        raise ValueError(msg)
    x, y, z = (float(s) for s in scene.spacing_mm)
    rounded = (np.round(image / STEP) * STEP).astype(np.float32)
    return Phantom(rounded, scene.instances, scene.classes, (x, y, z), names)
