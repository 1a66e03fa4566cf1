"""A case whose every side differs: asymmetric nested labels on an oblique, anisotropic grid, uncertain at one place."""

from __future__ import annotations

import numpy as np

from medseg.labels import LabelTable
from medseg.reports.case_view import CaseView, map_file
from medseg.reports.scene import write_scene
from medseg.volume import Source, Volume
from medseg.writers.nifti import write_nifti
from medseg.writers.seg_nrrd import write_seg_nrrd

SHAPE = (36, 30, 20)
SPACING = (1.0, 1.25, 2.5)
#: Where the neighbourhood of highest uncertainty lies, and a stray voxel of even higher uncertainty.
UNCERTAIN, STRAY = (22, 11, 12), (4, 25, 3)
TABLE = LabelTable.from_json(
    [
        {"value": 1, "name": 'Whole "tumour" & <oedema>', "colour": [255, 0, 0], "region": [1, 2],
         "category": ["SCT", "49755003", "Morphologically Altered Structure"], "type": ["SCT", "4147007", "Mass"]},
        {"value": 2, "name": "Kern größer", "colour": [0, 255, 0], "region": [2],
         "category": ["SCT", "49755003", "Morphologically Altered Structure"], "type": ["SCT", "4147007", "Mass"]},
        {"value": 3, "name": "left kidney", "colour": [0, 120, 255],
         "category": ["SCT", "123037004", "Anatomical Structure"], "type": ["SCT", "64033007", "Kidney"],
         "modifier": ["SCT", "7771000", "Left"]},
        {"value": 7, "name": "something", "colour": [255, 255, 0]},
    ]
)  # fmt: skip


def oblique(seed: int = 3) -> np.ndarray:
    """A right-handed affine turned by about 20 degrees about a skew axis."""
    axis = np.array([0.3, -0.5, 0.8]) / np.linalg.norm([0.3, -0.5, 0.8])
    angle = np.radians(20 + seed)
    cross = np.cross(np.eye(3), axis)
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    affine = np.eye(4)
    affine[:3, :3] = turn * SPACING
    affine[:3, 3] = (-31.25, 12.5, 101.125)
    return affine


def labels() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[16:27, 6:17, 8:16] = 1
    array[19:24, 9:14, 10:14] = 2
    array[4:12, 16:26, 5:9] = 3
    array[29:33, 22:25, 15:18] = 7
    return array


def entropy() -> np.ndarray:
    """1 within 5 voxels (2 along K) of `UNCERTAIN`, falling off; 0 elsewhere but in one stray voxel."""
    index = np.indices(SHAPE).transpose(1, 2, 3, 0)
    distance = np.linalg.norm((index - UNCERTAIN) * SPACING, axis=-1)
    array = np.clip(1 - distance / 8, 0, 1).astype(np.float32)
    array[array < 0.2] = 0
    array[STRAY] = 1.0
    return array


def view(name: str = 'case "A" & <b>', **changes) -> CaseView:
    grey = np.random.default_rng(0).normal(100, 4, SHAPE).astype(np.float32)
    grey[labels() > 0] += 60
    uncertain = entropy()
    given = {
        "image": Volume(grey, oblique(), Source(modality="MR")),
        "segmentation": Volume(labels(), oblique(), labels=TABLE),
        "maps": {"entropy": uncertain, "mutual_information": uncertain * np.float32(0.07)},
        "warning": "OUTSIDE TRAINING DOMAIN",
        "notes": ("the scan <ends> inside & the kidney",),
    }
    return CaseView(name, **{**given, **changes})


def write_case(folder, case: CaseView) -> None:
    """The files of a case, as `medseg predict` lays them out, and its scene."""
    write_nifti(folder / "image.nii.gz", case.image.array, case.image.affine)
    write_seg_nrrd(folder / "segmentation.seg.nrrd", case.segmentation, tags={3: {"medseg.volume_ml": "12.3"}})
    for key, array in case.maps.items():
        write_nifti(folder / map_file(key), array, case.image.affine)
    write_scene(folder, case)
