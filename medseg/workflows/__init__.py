"""What a command does, from files to files: predict, rank, evaluate, doctor, and what makes results trustworthy.

`predict` reads cases, checks them against the bundle's domain, segments them, and writes a folder a case;
`segment` is the one function in between, shared with the Python API. Nothing is imported here, so that
`medseg doctor` needs neither torch nor MONAI.
"""
