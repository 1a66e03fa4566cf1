"""Files and folders become Volumes here, or are refused with what was found and what to do.

`open.py` is the way in (`read`, `read_all`, `survey`); it looks at the first bytes (`sniff.py`) and hands the
file to `nifti.py`, `nrrd.py` or `dicom/`. No reader prints or warns: what it had to decide stands in
`Volume.source.decisions`.
"""
