"""An uncertainty map as a DICOM Parametric Map of float32, read back frame by frame before it is kept.

Readers built on dcmqi 1.5.7 (3D Slicer's QuantitativeReporting) do two things that highdicom's maps do not expect: they
crash where there is no FrameAnatomySequence, and they stack frames in the order of the file as if it ascended along row
direction x column direction, while highdicom's descends: the map would be shown upside down. Both are mended here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from medseg.geometry import Grid
from medseg.writers.dicom.anatomy import laterality, region
from medseg.writers.dicom.concepts import CONCEPTS, schemes
from medseg.writers.dicom.frames import frame_grid
from medseg.writers.dicom.maker import common, content_uid, settle, text
from medseg.writers.dicom.quiet import quiet
from medseg.writers.dicom.readback import check_map, write_checked
from medseg.writers.dicom.sources import as_sources
from medseg.writers.dicom.template import placement, refer, stand_in

if TYPE_CHECKING:
    from medseg.writers.dicom.maker import Maker
    from medseg.writers.dicom.sources import SourceLike, Sources

#: Entropy / ln C of float32 may exceed 1 by an ulp or two.
_ROUNDING = 1e-6


def write_parametric_map(
    path: str | Path,
    array: np.ndarray,
    affine: np.ndarray,
    sources: SourceLike,
    maker: Maker,
    *,
    name: str = "entropy",
    series_number: int = 1002,
) -> Dataset:
    """Write an uncertainty map as a DICOM Parametric Map, atomically; every slice is kept.

    Args:
        path: the file.
        array: (I, J, K) in [0, 1] (what rounding has put beyond is cut off), stored as float32, its axes in any order.
        affine: (4, 4) voxel index -> RAS mm.
        sources: the images that it was made from, see `sources_of`.
        maker: the bundle, and what stands in the content description.
        name: what it shows: 'entropy' or 'mutual_information'.
        series_number: of the new series.

    Returns:
        The object that was written, without its pixels.

    Raises:
        InputError: MS-D402 to MS-D404 sources that cannot be named.
        GeometryError: MS-D405 a sheared grid.
        OutputError: MS-O401 what DICOM readers would see is not what was given; MS-O101 to MS-O106.
        ValueError: not (I, J, K), or values outside [0, 1].
    """
    path, sources = Path(path), as_sources(sources)
    if array.ndim != 3 or array.dtype.kind != "f" or not (array.min() >= -_ROUNDING and array.max() <= 1 + _ROUNDING):
        msg = f"an uncertainty map is (I, J, K) of real numbers in [0, 1], got {array.shape} {array.dtype}"
        raise ValueError(msg)
    i, j, k = array.shape
    frames = frame_grid(Grid((i, j, k), affine), sources, file=path)
    values = np.clip(frames.frames(array).astype(np.float32, order="C"), 0, 1)
    concept = CONCEPTS[name]
    uid = content_uid("map", sources, maker, name, series_number, frames.grid.affine, values)
    with quiet():
        image = hd.pm.ParametricMap(
            source_images=[stand_in(sources, frames)],
            pixel_array=values[:, :1, :1],  # highdicom would copy all of them three times: `_fill` puts them in
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[
                hd.pm.RealWorldValueMapping(
                    lut_label=name.upper()[:16],
                    lut_explanation=text(f"{concept.meaning}, divided by its largest value"),
                    unit=codes.UCUM.NoUnits,
                    value_range=(0.0, 1.0),
                    slope=1.0,
                    intercept=0.0,
                    quantity_definition=concept,
                )
            ],
            voi_lut_transformations=[
                hd.VOILUTTransformation(window_center=0.5, window_width=1.0, voi_lut_function="LINEAR_EXACT")
            ],
            transfer_syntax_uid=ExplicitVRLittleEndian,
            coding_schemes=schemes(),
            content_label=name.upper()[:16],
            content_description=text(maker.warning or f"{concept.meaning} of {maker.bundle} {maker.version}"),
            **placement(frames, range(len(values))),
            **common(sources, maker, series_number=series_number, uid=uid, description=concept.meaning),
        )
        _add_anatomy(image, sources)
        _fill(image, values)
        refer(image, sources, frames, codes.DCM.UnspecifiedMethodOfCalculation)
        image.ContentCreatorName = ""  # must be there, and there is no person
        settle(image, sources, maker)

    def check(temporary: Path) -> None:
        del image.FloatPixelData  # room for what is read back
        check_map(temporary, values, frames)

    write_checked(path, image, check)
    return image


def _add_anatomy(image: Dataset, sources: Sources) -> None:
    item = Dataset()
    item.AnatomicRegionSequence = [CodedConcept.from_code(region(sources.header))]
    item.FrameLaterality = laterality(sources.header)
    image.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [item]


def _fill(image: Dataset, values: np.ndarray) -> None:
    """Put in the values, and the frames in their order: ascending along row direction x column direction."""
    groups = list(image.PerFrameFunctionalGroupsSequence)[::-1]
    for number, group in enumerate(groups, start=1):
        group.FrameContentSequence[0].DimensionIndexValues = [number]
    image.PerFrameFunctionalGroupsSequence = groups
    image.Rows, image.Columns = values.shape[1:]
    image.FloatPixelData = values.astype("<f4", copy=False).tobytes()
