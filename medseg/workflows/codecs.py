"""Which compressed DICOM images this installation really decodes: it decodes one of each.

pydicom ships the same small MR slice uncompressed and in three compressed forms. Lossless JPEG, which it does
not ship, is a hand-made 8x8 image: with predictor 1 and every difference 0 each pixel is 2^(8-1) = 128.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

_SLICES = {
    "RLE": "MR_small_RLE.dcm",
    "JPEG 2000": "MR_small_jp2klossless.dcm",
    "JPEG-LS": "MR_small_jpeg_ls_lossless.dcm",
}
_LOSSLESS_JPEG = bytes.fromhex(
    "ffd8"  # start of image
    "ffc40014 00 01000000000000000000000000000000 00"  # Huffman table 0: one code of one bit, for the difference 0
    "ffc3000b 08 0008 0008 01 011100"  # lossless frame: 8 bits, 8 rows, 8 columns, one component
    "ffda0008 01 0100 01 00 00"  # scan: predictor 1
    "0000000000000000"  # 64 one-bit codes
    "ffd9"
)


def probe_codecs() -> dict[str, str]:
    """Compressed syntax -> '' if its sample decodes to the right pixels, else why not, in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {name: _try(_decode_slice, file) for name, file in _SLICES.items()}
        return found | {"JPEG lossless": _try(_decode_lossless_jpeg)}


def _try(decode: Callable[..., bool], *args: str) -> str:
    try:
        right = decode(*args)
    except Exception as error:  # noqa: BLE001  a broken plug-in raises whatever it likes
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "" if right else "it decodes to wrong pixels"


def _decode_slice(file: str) -> bool:
    from pydicom import dcmread
    from pydicom.data import get_testdata_file

    decoded, plain = (dcmread(str(get_testdata_file(name, download=False))) for name in (file, "MR_small.dcm"))
    return np.array_equal(decoded.pixel_array, plain.pixel_array)


def _decode_lossless_jpeg() -> bool:
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGLosslessSV1

    layout: dict[str, Any] = {
        "rows": 8,
        "columns": 8,
        "samples_per_pixel": 1,
        "bits_allocated": 8,
        "bits_stored": 8,
        "pixel_representation": 0,
        "photometric_interpretation": "MONOCHROME2",
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }
    pixels, _ = get_decoder(JPEGLosslessSV1).as_array(encapsulate([_LOSSLESS_JPEG]), **layout)
    return np.array_equal(pixels, np.full((8, 8), 128))
