"""Siemens mosaics: the slices of one volume as tiles of one large image.

The tiles lie row by row in a square of ceil(sqrt(n)) tiles a side. ImagePositionPatient is that of the large
image had it been one slice, so the first tile's centre of its first pixel lies further in by half of what the
mosaic is larger than a tile (https://nipy.org/nibabel/dicom/dicom_mosaic.html). The order of the slices in
space is that of SliceNormalVector in the private CSA header: without it, it is not known.

Worked example: 384 x 384 pixels of 3.25 mm, 36 tiles of 64 x 64: the first tile begins (384 - 64) / 2 = 160
pixels, 520 mm, along the row and column directions from ImagePositionPatient.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError
from medseg.readers.dicom.planes import Plane, first, header_keys

if TYPE_CHECKING:
    from medseg.readers.dicom.headers import Header


def is_mosaic(header: Header) -> bool:
    """Whether the image is a Siemens mosaic."""
    return "MOSAIC" in (header.get("image_type") or ())


def mosaic_planes(header: Header) -> list[Plane]:
    """The planes of a mosaic, one per tile that holds a slice.

    Raises:
        GeometryError: MS-D114 when the number of tiles, their order or their distance is not known.
    """
    count, normal = _tiles_and_normal(header)
    position, orientation, spacing = header.get("position"), header.get("orientation"), header.get("pixel_spacing")
    step = first(header.get("spacing_between")) or 0.0
    across = math.ceil(math.sqrt(count)) if count else 0
    rows, cols = header.get("rows") or 0, header.get("cols") or 0
    missing = [
        name
        for name, absent in {
            "NumberOfImagesInMosaic": not count,
            "SliceNormalVector": normal is None,
            "SpacingBetweenSlices": not step,
            "ImagePositionPatient": position is None,
            "ImageOrientationPatient": orientation is None,
            "PixelSpacing": spacing is None,
        }.items()
        if absent
    ]
    if missing or rows % across or cols % across:
        found = (
            f"without {', '.join(missing)}" if missing else f"of {rows} x {cols} pixels in {across} x {across} tiles"
        )
        raise GeometryError(
            "MS-D114",
            f"a Siemens mosaic {found} cannot be taken apart",
            file=header.path,
            mend="export it with its private tags (CSA header), or as one image per slice",
        )
    tile_rows, tile_cols = rows // across, cols // across
    r, c = np.reshape(orientation, (2, 3))
    corner = np.array(position) + r * spacing[1] * (cols - tile_cols) / 2 + c * spacing[0] * (rows - tile_rows) / 2
    # The CSA vector has 8 decimals; the cross product of the exact directions says the same with all of them.
    exact = np.cross(r, c)
    exact = exact / np.linalg.norm(exact) * np.sign(exact @ normal)
    keys = header_keys(header)
    return [
        Plane(
            header=header,
            rows=tile_rows,
            cols=tile_cols,
            position=tuple(float(x) for x in corner + exact * step * n),
            orientation=orientation,
            spacing=spacing,
            slope=first(header.get("slope")),
            intercept=first(header.get("intercept")),
            thickness=first(header.get("slice_thickness")),
            step=step,
            tile=n,
            tiles_across=across,
            keys=keys,
        )
        for n in range(count)
    ]


def _tiles_and_normal(header: Header) -> tuple[int, np.ndarray | None]:
    tags = {}
    if raw := header.get("siemens_csa"):
        from nibabel.nicom import csareader  # warns when it is imported: callers have silenced that (`series.quiet`)

        try:
            tags = csareader.read(raw)["tags"]
        except Exception as error:
            raise GeometryError(
                "MS-D114",
                f"the private CSA header of this Siemens mosaic cannot be read ({error})",
                file=header.path,
                mend="export it again, or as one image per slice",
            ) from error
    count = header.get("siemens_tiles") or next(iter(_items(tags, "NumberOfImagesInMosaic")), 0)
    normal = _items(tags, "SliceNormalVector")
    return int(count), np.array(normal, float) if len(normal) == 3 and any(normal) else None


def _items(tags: dict, name: str) -> list:
    return tags.get(name, {}).get("items") or []
