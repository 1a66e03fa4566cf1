"""Which folder of a case holds its masks, and what each mask is called: names alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.readers.cases.names import belongs_to, has_image_name, is_label_name, stem
from medseg.training.plan.map_folders import folders_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def mask_folder(folder: Path) -> Path | None:
    """The one folder of masks in a case's folder.

    Args:
        folder: of the case.

    Returns:
        The only folder in it with scans, where that is called label maps (segmentations, masks, labels) and holds images.
        None where there are others, where label maps lie beside it right in `folder`, or where it may not be read.
    """
    try:
        inside = folders_in(folder)
        if len(inside) != 1 or not is_label_name(inside[0]) or not images_in(inside[0]):
            return None
        return None if any(is_label_name(one) for one in images_in(folder)) else inside[0]
    except OSError:
        return None


def images_in(folder: Path) -> list[Path]:
    """Image files right in a folder, by name; of a pair .hdr and .img the header."""
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".") and has_image_name(f))
    return [f for f in files if not f.name.lower().endswith((".img", ".img.gz"))]


def structures_of(case: Path, masks: Sequence[Path]) -> list[str]:
    """What masks are called without the name of their case before it: 'liver' of `p1/masks/p1_liver.nii.gz`.

    Args:
        case: the folder of the case.
        masks: its masks.

    Returns:
        One each; '' where it is called as the case's folder or image, and so names no structure.
    """
    fronts = {case.name, *map(stem, images_in(case))}
    names = list(map(stem, masks))
    front = [
        max((f for f in fronts if name.startswith(f) and belongs_to(name, f)), key=len, default="") for name in names
    ]
    return [name.removeprefix(one).lstrip("_-. ") for name, one in zip(names, front, strict=True)]
