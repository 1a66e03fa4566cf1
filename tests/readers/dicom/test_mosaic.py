"""Siemens mosaics made from a volume whose values tell their place; real ones stand in test_dev_cases.py."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from medseg.errors import GeometryError
from medseg.readers.dicom import read_dicom, read_one


def csa_header(count: int, normal: np.ndarray) -> bytes:
    """A CSA2 header ('SV10') with the two tags that matter (layout as nibabel documents it)."""

    def tag(name: str, items: list[str]) -> bytes:
        out = struct.pack("<64si4siii", name.encode(), len(items), b"FD\0\0", 4, len(items), 77)
        for item in items:
            data = item.encode() + b"\0"
            out += struct.pack("<4i", len(data), len(data), 77, len(data)) + data + b"\0" * (-len(data) % 4)
        return out

    tags = [tag("NumberOfImagesInMosaic", [str(count)]), tag("SliceNormalVector", [f"{x:.8f}" for x in normal])]
    return b"SV10\4\3\2\1" + struct.pack("<II", len(tags), 77) + b"".join(tags)


def write_mosaic(folder, phantom, *, count=5, sign=1, oblique=False, edit=None):
    stack = phantom.stack(n=count, oblique=oblique)
    normal = sign * np.cross(stack.r, stack.c)
    stack.positions = np.array([-10.0, 20, -30]) + np.arange(count)[:, None] * 5 * normal
    rows, cols = stack.shape
    across = math.ceil(math.sqrt(count))
    image = np.zeros((rows * across, cols * across))
    for k in range(count):
        row, col = divmod(k, across)
        image[row * rows : (row + 1) * rows, col * cols : (col + 1) * cols] = stack.plane(k)
    ds = phantom.dataset(image, modality="MR", slope=0.1, intercept=0.0)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    inward = stack.r * 3 * cols * (across - 1) / 2 + stack.c * 2 * rows * (across - 1) / 2
    ds.ImagePositionPatient = [f"{x:.10g}" for x in stack.positions[0] - inward]
    ds.ImageOrientationPatient = [f"{x:.10g}" for x in (*stack.r, *stack.c)]
    ds.PixelSpacing, ds.SpacingBetweenSlices, ds.Manufacturer = [2, 3], 5, "SIEMENS"
    ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa_header(count, normal))
    if edit is not None:
        edit(ds)
    folder.mkdir(exist_ok=True)
    ds.save_as(folder / "mosaic.dcm")
    return folder


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("oblique", [False, True])
def test_tiles_lie_along_the_slice_normal(tmp_path, phantom, codes, sign, oblique):
    volume = read_one(write_mosaic(tmp_path, phantom, sign=sign, oblique=oblique))
    assert volume.array.shape == (5, 7, 5)
    assert volume.source.details["container"] == "mosaic"
    assert "MS-D215" in codes(volume)
    phantom.assert_faithful(volume, 0.051)


def test_a_time_series_of_mosaics(tmp_path, phantom):
    for t in range(3):

        def edit(ds, t=t):
            ds.AcquisitionNumber = t + 1
            ds.PixelData = (np.frombuffer(ds.PixelData, "<i2") + 10 * t).astype("<i2").tobytes()

        write_mosaic(tmp_path, phantom, edit=edit)
        (tmp_path / "mosaic.dcm").rename(tmp_path / f"{9 - t}.dcm")
    volumes = read_dicom(tmp_path)
    assert [round(float(v.array[0, 0, 0] - volumes[0].array[0, 0, 0])) for v in volumes] == [0, 1, 2]
    assert [v.source.details["index"] for v in volumes] == [0, 1, 2]


def no_csa(ds):
    del ds[0x0029, 0x1010]


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (no_csa, "without NumberOfImagesInMosaic, SliceNormalVector"),
        (lambda ds: ds.__delattr__("SpacingBetweenSlices"), "without SpacingBetweenSlices"),
        (lambda ds: setattr(ds, "Rows", 20), "20 x 15 pixels in 3 x 3 tiles"),
        (lambda ds: setattr(ds[0x0029, 0x1010], "value", b"SV10\4\3\2\1\xff\xff\0\0"), "CSA header"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(tmp_path, phantom, edit, match):
    with pytest.raises(GeometryError, match=match) as caught:
        read_one(write_mosaic(tmp_path, phantom, edit=edit))
    assert caught.value.code == "MS-D114"
