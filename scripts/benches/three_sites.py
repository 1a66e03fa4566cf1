"""The 160 training cases of the hippocampus at three uneven sites, as hospitals differ; the 40 validation cases apart.

north   16 cases, as they are
east    16 cases, other intensities: contrast bent by gamma 0.6, times 3, plus 200
south  128 cases, coarser: slices of 2 mm along the second axis, averaged before
test    40 cases that none trains with
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from scipy.ndimage import uniform_filter1d

from medseg.geometry import Grid
from medseg.resample import resample_image, resample_labels

if TYPE_CHECKING:
    from pathlib import Path

SITES = {"north": 16, "east": 16, "south": 128}
SLICE_MM, AXIS = 2.0, 1


def write_three_sites(source: Path, out: Path, most: int | None = None) -> dict[str, Path]:
    """Write each site's folder with imagesTr and labelsTr; what is there already stays.

    Args:
        source: the hippocampus set, with splits_dev.json.
        out: a new folder.
        most: no site gets more cases than so many, for a quick run.

    Returns:
        Site -> its folder, 'test' last.
    """
    splits = json.loads((source / "splits_dev.json").read_text())
    names = sorted(splits["train"])
    random.Random(0).shuffle(names)
    changes = {"north": unchanged, "east": bent, "south": coarse}
    found = {}
    for site, count in SITES.items():
        mine, names = names[:count], names[count:]
        found[site] = _write(source, out / site, mine[:most], changes[site])
    found["test"] = _write(source, out / "test", splits["val"][:most], unchanged)
    return found


def unchanged(image: nib.nifti1.Nifti1Image, label: nib.nifti1.Nifti1Image) -> tuple:
    return image, label


def bent(image: nib.nifti1.Nifti1Image, label: nib.nifti1.Nifti1Image) -> tuple:
    """Another scanner's contrast; the labels stay."""
    array = np.asarray(image.dataobj, np.float32)
    low, high = float(array.min()), float(array.max())
    changed = 200 + 3 * high * ((array - low) / (high - low)) ** 0.6
    return nib.Nifti1Image(changed.astype(np.float32), image.affine), label


def coarse(image: nib.nifti1.Nifti1Image, label: nib.nifti1.Nifti1Image) -> tuple:
    """Thick slices: the mean over a slice's thickness, and labels as they would be drawn on those."""
    grid = Grid(image.shape, image.affine)
    step = SLICE_MM / grid.spacing_mm[AXIS]
    matrix = np.eye(4)
    matrix[AXIS, AXIS], matrix[AXIS, 3] = step, (step - 1) / 2
    shape = list(image.shape)
    shape[AXIS] = int(shape[AXIS] // step)
    target = Grid(tuple(shape), image.affine @ matrix)
    smooth = uniform_filter1d(np.asarray(image.dataobj, np.float32), round(step), axis=AXIS, mode="nearest", origin=-1)
    array = resample_image(smooth, _shifted(grid), target)
    return tuple(
        nib.Nifti1Image(one, target.affine)
        for one in (array, resample_labels(np.asarray(label.dataobj).astype(np.uint8), grid, target))
    )


def _shifted(grid: Grid) -> Grid:
    """Where the means of two voxels lie: half a voxel further along the axis."""
    matrix = np.eye(4)
    matrix[AXIS, 3] = 0.5
    return Grid(grid.shape, grid.affine @ matrix)


def _write(source: Path, folder: Path, names: list[str], change) -> Path:
    files = [folder / kind / f"{name}.nii.gz" for name in names for kind in ("imagesTr", "labelsTr")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
    if other := {*folder.glob("*/[!.]*.nii.gz")} - {*files}:
        raise SystemExit(f"{min(other)} belongs to another split of the cases: set MEDSEG_RUNS to a new folder")
    for image, label in zip(files[::2], files[1::2], strict=True):
        if image.exists() and label.exists():
            continue
        given = [nib.load(source / file.parent.name / file.name) for file in (image, label)]
        for file, made in zip((image, label), change(*given), strict=True):
            nib.save(made, file.with_name(f".{file.name}"))
            file.with_name(f".{file.name}").replace(file)
    return folder
