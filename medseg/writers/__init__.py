"""Results go to disk here: whole or not at all, read again before they count.

`atomic.py` is the only way a file of medseg appears under its name; `nifti.py` writes images and label maps.
"""
