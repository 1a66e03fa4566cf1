"""A judged series -> its Volume: pixels read, rescaled, resampled where its geometry needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.readers.dicom.pixels import load_stack
from medseg.readers.dicom.regular import fill_gaps, straighten
from medseg.readers.dicom.series import Series, quiet
from medseg.volume import Source, Volume

if TYPE_CHECKING:
    from pathlib import Path


_RECORDED = {"echo time": "echo_time_ms", "b-value": "b_value_s_mm2", "repetition time": "repetition_time_ms"}


def load_series(series: Series, path: Path) -> Volume:
    """The volume of one series.

    Args:
        series: from `find_series`.
        path: what the user named.

    Returns:
        A Volume of (I, J, K) = (column, row, slice), int16 or float32; slices ascend along row x column direction.

    Raises:
        InputError: the refusal of the series, or MS-D109 to MS-D111 when its pixels cannot be read.
    """
    geometry = series.geometry
    if series.error is not None:
        raise series.error
    if geometry is None:  # a Series without geometry always has an error
        msg = "this series was not judged"
        raise ValueError(msg)
    with quiet():
        stack = load_stack(series.planes)
    if geometry.uneven:
        stack = fill_gaps(stack, geometry)
    array, affine = stack.transpose(2, 1, 0), geometry.affine_ras
    details = _details(series)
    if geometry.sheared:
        details["native_shape"] = list(array.shape)
        details["native_affine_ras"] = affine.tolist()
        array, affine = straighten(array, affine, series.modality)
    source = Source(
        path=path,
        format="dicom",
        files=series.files,
        modality=series.modality,
        series_uid=series.uid or None,
        series_number=series.number,
        frame_of_reference=series.headers[0].get("frame_of_reference"),
        description=series.description,
        decisions=series.decisions,
        details=details,
    )
    return Volume(array, affine, source)


def _details(series: Series) -> dict[str, Any]:
    geometry, first = series.geometry, series.planes[0]
    details: dict[str, Any] = {"geometry": geometry.kind if geometry else None, "selector": series.selector}
    if first.tile is not None:
        details["container"] = "mosaic"
    elif first.header.dataset is not None:
        details["container"] = "multi-frame"
        # Of each file of `Source.files` the frames that form this volume, from 1: a derived object names them.
        details["frames"] = [[p.frame + 1 for p in series.planes if p.path == file] for file in series.files]
    for key, name in _RECORDED.items():
        values = {p.keys.get(key) for p in series.planes}
        if len(values) == 1 and (value := values.pop()) is not None:
            details[name] = value
    if first.thickness:
        details["slice_thickness_mm"] = first.thickness
    if units := first.header.get("units"):
        details["units"] = units
    if series.siblings > 1:
        details["index"] = series.index
        details["of"] = series.siblings
    if series.keys:
        details["split"] = {name: _plain(value) for name, value in series.keys.items()}
    return details


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value if isinstance(value, int | float | str | None) else str(value)
