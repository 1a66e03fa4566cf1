"""A folder of phantoms as nnU-Net lays it out, with nnDetection's JSON of classes beside every label map.

OUT/dataset.json
OUT/imagesTr/cubes_000_0000.nii.gz      float32
OUT/labelsTr/cubes_000.nii.gz           uint16, 0 background, else the instance's id
OUT/labelsTr/cubes_000.json             {"instances": {"1": 0}, "box_only": []}: id -> class; drawn as boxes
OUT/imagesTs, labelsTs                  likewise
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.writers.atomic import write_json
from medseg.writers.nifti import write_nifti
from phantoms.boxed import strip_to_boxes
from phantoms.presets import Phantom, make

if TYPE_CHECKING:
    from pathlib import Path

#: Seeds of the cases of one data set: training from 0, test from here, the next data set from twice this.
_PARTS = 50_000


def case_seed(seed: int, part: str, number: int) -> int:
    """The seed of case `number` of part 'Tr' or 'Ts'; no two cases of any two data sets share one."""
    return (2 * seed + (part == "Ts")) * _PARTS + number


def write_dataset(
    out: Path,
    preset: str,
    *,
    train: int,
    test: int,
    seed: int = 0,
    size: int | tuple[int, int, int] = 48,
    objects: tuple[int, int] | None = None,
    box_only: float = 0.0,
) -> None:
    """Write `train` and `test` volumes.

    Args:
        out: the folder.
        preset: a key of `PRESETS`.
        train: how many go to imagesTr, at most 50000.
        test: how many go to imagesTs, at most 50000; their masks are always whole.
        seed: of the data set.
        size: see `make`.
        objects: see `make`.
        box_only: share of the training instances drawn as filled boxes.
    """
    names: tuple[str, ...] = ()
    for part, count in (("Tr", train), ("Ts", test)):
        for number in range(count):
            one = case_seed(seed, part, number)
            phantom = make(preset, one, size, objects=objects)
            names = phantom.names
            boxed = []
            if part == "Tr" and box_only:
                drawn = np.random.default_rng([one, 1]).random(len(phantom.classes))
                boxed = [i for i, d in zip(phantom.classes, drawn, strict=True) if d < box_only]
            write_case(out, part, f"{preset}_{'test_' * (part == 'Ts')}{number:03d}", phantom, boxed)
    write_json(
        out / "dataset.json",
        {
            "name": f"phantom: {preset}",
            "channel_names": {"0": "phantom"},
            "instances": {"classes": list(names)},  # no "labels": the maps hold ids, not classes
            "numTraining": train,
            "numTest": test,
            "file_ending": ".nii.gz",
            "phantom": {"preset": preset, "seed": seed, "size": size, "objects": objects, "box_only": box_only},
        },
    )


def write_case(out: Path, part: str, name: str, phantom: Phantom, boxed: list[int]) -> None:
    """Write image, label map and classes of one case; the volume's centre is at 0 mm (RAS)."""
    affine = np.diag([*phantom.spacing_mm, 1.0])
    affine[:3, 3] = -(np.array(phantom.image.shape) - 1) / 2 * phantom.spacing_mm
    write_nifti(out / f"images{part}" / f"{name}_0000.nii.gz", phantom.image, affine)
    labels = strip_to_boxes(phantom.instances, boxed)
    write_nifti(out / f"labels{part}" / f"{name}.nii.gz", labels, affine)
    classes = {str(number): kind for number, kind in phantom.classes.items()}
    write_json(out / f"labels{part}" / f"{name}.json", {"instances": classes, "box_only": boxed})
