"""Small cases whose right picture is known: a body with a bright blob at the patient's left, front and top."""

from __future__ import annotations

import numpy as np

from medseg.geometry import Grid
from medseg.labels import LabelTable
from medseg.reports.case_view import CaseView
from medseg.volume import Source, Volume

RED = (255, 0, 0)
TABLE = LabelTable.from_json(
    [
        {"value": 3, "name": "blob", "colour": list(RED)},
        {"value": 7, "name": "core & shell", "colour": [0, 255, 0]},
        {"value": 9, "name": "absent", "colour": [0, 0, 255]},
    ]
)
#: Centre of the blob, RAS mm from the middle of the image.
BLOB = np.array([-14.0, 12.0, 10.0])
CORE = np.array([10.0, -8.0, -6.0])
#: Where the entropy is largest.
DOUBT = np.array([14.0, -8.0, -6.0])


def affine_of(kind: str, shape=(80, 72, 56), spacing=(1.0, 1.0, 1.25)) -> np.ndarray:
    """Voxel index -> RAS mm with the middle of the image at the origin."""
    axes = np.diag(spacing)
    if kind == "LAS":
        axes[:, 0] *= -1
    if kind == "oblique":
        a, b = np.radians([20, 12])
        turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
        axes = turn @ axes
        axes[:, 0] *= -1
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = -axes @ ((np.array(shape) - 1) / 2)
    return affine


def demo_case(kind: str = "RAS", *, maps: bool = True, name: str = "demo", warning: str = "") -> CaseView:
    """A case on a grid of this kind; the same body in space for every kind."""
    shape = (80, 72, 56)
    affine = affine_of(kind, shape)
    index = np.moveaxis(np.indices(shape), 0, -1)
    world = Grid(shape, affine).to_world(index)
    body = ((world / [26, 24, 26]) ** 2).sum(-1) < 1
    blob = np.linalg.norm(world - BLOB, axis=-1) < 5
    core = np.linalg.norm(world - CORE, axis=-1) < 6
    image = np.where(body, 400, 0) + np.where(blob, 600, 0) + np.where(core, 100, 0)
    image = (image + np.random.default_rng(0).integers(0, 20, shape)).astype(np.int16)
    labels = (3 * blob + 7 * core).astype(np.uint8)
    found = {}
    if maps:
        away = np.linalg.norm(world - DOUBT, axis=-1)
        found["entropy"] = np.exp(-((away / 4) ** 2)).astype(np.float32)
        found["mutual_information"] = (0.04 * np.exp(-((np.linalg.norm(world - BLOB, axis=-1) / 4) ** 2))).astype(
            np.float32
        )
    rows = [
        {
            "structure": "blob",
            "value": 3,
            "voxels": int(blob.sum()),
            "volume_ml": blob.sum() * 1.25e-3,
            "flags": "touches the edge of the image; too small",
            "outside_domain": "no",
        },
        {"structure": "core & shell", "value": 7, "voxels": int(core.sum()), "volume_ml": 1.13, "flags": ""},
        {"structure": "absent", "value": 9, "voxels": 0, "volume_ml": 0.0, "flags": "empty"},
    ]
    if maps:
        extra = ("volume_sd_ml", "entropy_inside", "entropy_boundary", "predicted_dice")
        for r, values in zip(rows, ((0.02, 0.11, 0.25, 0.91), (0.1, 0.3, 0.5, 0.62), ("", "", "", "")), strict=True):
            r |= dict(zip(extra, values, strict=True))
    return CaseView(
        name,
        Volume(image, affine, Source(modality="MR")),
        Volume(labels, affine, labels=TABLE),
        found,
        rows,
        warning,
        ("look at the blob",),
    )
