"""Label names in NIfTI headers."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import medseg
from medseg.readers.nifti_labels import labels_in_extensions

ROW = '<Label Key="{}" Red="1.0" Green="0.5" Blue="0.0" Alpha="1"><![CDATA[{}]]></Label>'


def written(path, *rows, code=0):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4))
    text = (
        "<CaretExtension><LabelTable>" + "\n".join(ROW.format(*row) for row in rows) + "</LabelTable></CaretExtension>"
    )
    image.header.extensions.append(nib.nifti1.Nifti1Extension(code, text.encode()))
    image.to_filename(path)
    return path


@pytest.mark.parametrize("code", [0, 30])
def test_names_that_totalsegmentator_writes(tmp_path, code):
    labels = medseg.read(written(tmp_path / "a.nii.gz", (1, "spleen"), (7, "left & right"), code=code)).labels
    assert [(x.value, x.name, x.colour) for x in labels] == [
        (1, "spleen", (255, 128, 0)),
        (7, "left & right", (255, 128, 0)),
    ]


@pytest.mark.parametrize("rows", [[(1, "a"), (1, "b")], [(1, "a"), (2, "a")], [(0, "background")], []])
def test_tables_that_name_nothing(tmp_path, rows):
    assert medseg.read(written(tmp_path / "a.nii.gz", *rows)).labels is None


def test_control_characters_cannot_reach_the_terminal(tmp_path):
    (label,) = medseg.read(written(tmp_path / "a.nii.gz", (1, "li\x1b[2Jver"))).labels
    assert "\x1b" not in label.name


def test_real_files(data):
    labels = medseg.read(data("totalseg") / "example_seg.nii.gz").labels
    assert labels.by_name["liver"].value == 5
    assert len(labels) == 117


@given(st.binary(max_size=300), st.sampled_from(["little", "big"]))
def test_any_bytes_are_read_or_passed_over(raw, order):
    assert labels_in_extensions(raw, order) is None or raw
