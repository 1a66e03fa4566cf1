"""What the user named becomes a list of cases: images by channel, labels beside them, one safe name each.

    find_cases   a file, a DICOM folder, a folder of cases or studies, dataset.json, imagesTr, a CSV or JSON list
    check_cases  what the headers of every case allow, before any is read
    load_case    the image of a case, channels stacked on one grid
    load_label   its label map, checked to lie on the image
    survey_input what is there and what would become of it, lists included

`find_cases` looks at names only (at headers for the series number of DICOM folders) and refuses what is wrong with
the list as a whole; what is wrong with one case comes up when it is loaded, so that the others go on.
"""

from medseg.readers.cases.case import Case
from medseg.readers.cases.channels import load_case
from medseg.readers.cases.find import find_cases
from medseg.readers.cases.headers import check_cases
from medseg.readers.cases.listed import survey_input
from medseg.readers.cases.pairing import load_label

__all__ = ["Case", "check_cases", "find_cases", "load_case", "load_label", "survey_input"]
