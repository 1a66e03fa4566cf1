"""DICOM images: files and folders -> Volumes, or a refusal with the place of the trouble.

    find_series    what a folder holds, from headers alone, each volume with a verdict
    read_dicom     the volumes themselves
    check_one      whether the headers of one volume allow that it is read
    survey_dicom   one `Finding` a volume and a row for everything else

The way of a folder: `headers` (tags of every file) -> `objects` (image or not) -> `planes`, `multiframe`, `mosaic`
(one Plane per 2D image) -> `series` and `split` (which planes form a volume) -> `geometry` (where it lies, and
whether that is regular) -> `pixels` -> `regular` (tilt, gaps) -> `load` (a Volume). `choose` picks among several, `read` also knows label maps.
"""

from medseg.readers.dicom.read import check_one, find_series, read_dicom, read_one
from medseg.readers.dicom.series import Series
from medseg.readers.dicom.survey import survey_dicom

__all__ = ["Series", "check_one", "find_series", "read_dicom", "read_one", "survey_dicom"]
