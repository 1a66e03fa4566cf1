"""Which cases train and which validate: named by the bundle, else drawn by a seed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDERS = (("imagesTr", "labelsTr"), ("images", "labels"))
SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


def datalist(
    folder: str, part: str, validation: Sequence[str] = (), fraction: float = 0.2, seed: int = 0
) -> list[dict[str, str]]:
    """Images with labels of `folder`/imagesTr and labelsTr (or images and labels), as MONAI's data list of one part.

    Args:
        folder: an MSD or nnU-Net style folder, or one with images and labels.
        part: 'train' or 'val'.
        validation: names of the cases held out. Where none of them is in the folder (somebody else's data),
            `fraction` of the cases, drawn by `seed`, is held out instead.
        fraction: share of the cases held out when none is named.
        seed: of that draw.

    Returns:
        `{"image": path, "label": path}` for every case, ordered by name.

    Raises:
        InputError: the folder holds no labelled case (MS-T101), or an image has no label (MS-T102).
    """
    of_images, of_labels = next((pair for pair in FOLDERS if Path(folder, pair[0]).is_dir()), FOLDERS[0])
    images, labels = (
        {_stem(p): p for p in sorted(Path(folder, part).glob("[!.]*")) if p.name.endswith(SUFFIXES)}
        for part in (of_images, of_labels)
    )
    if not images:
        raise InputError(
            "MS-T101", "no images in imagesTr", file=folder, mend="put images into imagesTr and labels into labelsTr"
        )
    alone = sorted(set(images) - set(labels))
    if alone:
        raise InputError(
            "MS-T102", f"{len(alone)} images have no label, first {alone[0]}", file=folder,
            mend=f"add the missing files to {of_labels}, or take the images out",
        )  # fmt: skip
    held_out = set(validation) & set(images)
    if not held_out:
        names = sorted(images)
        held_out = set(random.Random(seed).sample(names, max(1, round(fraction * len(names)))))
    wanted = [name for name in images if (name in held_out) == (part == "val")]
    return [{"image": str(images[name]), "label": str(labels[name])} for name in wanted]


def _stem(path: Path) -> str:
    name = path.name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name.removesuffix("_0000")
