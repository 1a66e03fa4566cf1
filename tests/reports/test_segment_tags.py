"""Measurements on their way into a segmentation file."""

from __future__ import annotations

import numpy as np

from medseg.readers.nrrd import read_nrrd
from medseg.reports.segment_tags import segment_tags
from medseg.volume import Volume
from medseg.writers.seg_nrrd import write_seg_nrrd
from tests.reports import phantom

ROWS = [
    {"structure": "a", "value": 1, "voxels": 5, "volume_ml": 0.0, "flags": "", "outside_domain": "no"},
    {"structure": "b", "value": "3", "volume_ml": 12.34, "flags": "touches edge; small", "predicted_dice": "",
     "volume_sd_ml": None},
]  # fmt: skip


def test_what_is_known_becomes_a_tag():
    assert segment_tags(ROWS) == {
        1: {"medseg.volume_ml": "0.0", "medseg.outside_domain": "no"},
        3: {"medseg.volume_ml": "12.34", "medseg.flags": "touches edge; small"},
    }
    assert segment_tags([]) == {}


def test_the_file_holds_them_and_is_read_as_before(tmp_path):
    path, labels = tmp_path / "x.seg.nrrd", Volume(phantom.labels(), np.eye(4), labels=phantom.TABLE)
    write_seg_nrrd(path, labels, tags=segment_tags(ROWS))
    head = path.read_bytes().split(b"\n\n")[0].decode()
    assert "|medseg.volume_ml:12.34|medseg.flags:touches edge; small|" in head
    found = read_nrrd(path)
    np.testing.assert_array_equal(found.array, labels.array)
    assert [label.type for label in found.labels][:3] == [label.type for label in phantom.TABLE][:3]
