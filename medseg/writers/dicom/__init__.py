"""Results as DICOM objects that a PACS takes and 3D Slicer, OHIF and dcmqi read.

    write_dicom            all of a case: seg.dcm, uncertainty.dcm, measurements.dcm
    write_dicom_seg        a label map as SEG
    write_parametric_map   an uncertainty map as Parametric Map
    write_measurements     measurements as a TID 1500 report
    sources_of             the images that a volume was read from, which each of them names
    deidentified           the same without what tells of the patient (PS3.15), for objects that leave the hospital

The way of an object: `sources` (what it is derived from) -> `frames` (where each frame lies) -> `segments` or values
-> highdicom, from a clean `template` -> true references (`template`), identifiers and times (`maker`) -> `readback`.
"""

from medseg.writers.dicom.deidentify import Deidentifier, deidentified
from medseg.writers.dicom.folder import MAP_FILES, write_dicom
from medseg.writers.dicom.maker import Maker
from medseg.writers.dicom.measurements import write_measurements
from medseg.writers.dicom.parametric_map import write_parametric_map
from medseg.writers.dicom.seg import write_dicom_seg
from medseg.writers.dicom.sources import Sources, sources_of

__all__ = [
    "MAP_FILES",
    "Deidentifier",
    "Maker",
    "Sources",
    "deidentified",
    "sources_of",
    "write_dicom",
    "write_dicom_seg",
    "write_measurements",
    "write_parametric_map",
]
