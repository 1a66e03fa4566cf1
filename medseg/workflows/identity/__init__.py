"""Pseudonyms of cases, and how paths of the input and words about it are told in results, logs and errors.

`key` keeps the salt and who is behind a pseudonym, in a file beside the scans; `cases` says which cases get one; `teller`
tells the files of a case, with `hide` for names in a text and `tags` for what DICOM headers say of the patient; `guard`
sees to errors, warnings and logs that leave a run; `matched` pairs references called by names with such predictions.
"""
