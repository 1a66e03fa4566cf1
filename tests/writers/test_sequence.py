"""Sequences: as medseg reads them, and as the bytes lie; 3D Slicer's reading is in test_scene_in_slicer.py."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.geometry import Grid, corner_distance_mm
from medseg.readers.nrrd import read_nrrd
from medseg.writers.sequence import write_sequence
from tests.writers.test_nifti import random_affine


@given(
    st.sampled_from(["u1", "bool", "i2", ">u2", "f4", "f8", "f2", ">f4"]),
    st.tuples(*[st.integers(1, 4)] * 4),
    st.integers(0, 2**31),
)
def test_medseg_reads_back_every_sample(tmp_path_factory, dtype, shape, seed):
    samples = (np.random.default_rng(seed).random(shape) * 250).astype(dtype)
    path, affine = tmp_path_factory.mktemp("q") / "x.seq.nrrd", random_affine(seed)
    write_sequence(path, iter(samples), affine, count=len(samples))
    found = read_nrrd(path)
    np.testing.assert_array_equal(found.array if found.array.ndim == 4 else found.array[None], samples.astype("f4"))
    assert corner_distance_mm(found.grid, Grid(samples.shape[1:], affine)) < 1e-9


def test_bytes(tmp_path):
    samples = np.random.default_rng(0).random((3, 2, 4, 5), dtype=np.float32)
    write_sequence(tmp_path / "x.seq.nrrd", samples, np.eye(4), count=3)
    head, _, packed = (tmp_path / "x.seq.nrrd").read_bytes().partition(b"\n\n")
    lines = head.decode().split("\n")
    assert lines[0] == "NRRD0004"
    for line in (
        "sizes: 2 4 5 3",
        "kinds: domain domain domain list",
        'labels: "" "" "" "sample"',
        "axis 3 index type:=numeric",
        "axis 3 index values:=0 1 2",
    ):
        assert line in lines
    assert gzip.decompress(packed) == b"".join(sample.tobytes(order="F") for sample in samples)


def test_samples_are_written_as_they_come(tmp_path):
    """A producer may use one array for all: none is looked at after the next was asked for."""
    array = np.zeros((3, 4, 5), np.uint8)

    def produce():
        for n in range(4):
            array[:] = n
            yield array

    write_sequence(tmp_path / "x.seq.nrrd", produce(), np.eye(4), count=4)
    np.testing.assert_array_equal(read_nrrd(tmp_path / "x.seq.nrrd").array[:, 0, 0, 0], [0, 1, 2, 3])


ONE = np.zeros((2, 3, 4), np.uint8)


@pytest.mark.parametrize(
    ("samples", "count", "match"),
    [
        ([], 0, "at least one"),
        ([], 2, "at least one volume, got 0"),
        ([ONE], 0, "at least one"),
        ([ONE], 2, "2 samples were announced, 1 came"),
        ([ONE] * 3, 2, "2 samples were announced, more came"),
        ([ONE, ONE[:1]], 2, "sample 1 is uint8"),
        ([ONE, ONE.astype(np.int16)], 2, "sample 1 is int16"),
        ([ONE[0]], 1, r"\(I, J, K\)"),
        ([ONE.astype(np.int64)], 1, "8 to 32 bits"),
        ([ONE + 0.5, ONE + np.nan], 2, "sample 1 holds NaN"),
        ([ONE + 1e300], 1, "beyond float32"),
    ],
)
def test_what_is_no_sequence(tmp_path, samples, count, match):
    with pytest.raises(ValueError, match=match):
        write_sequence(tmp_path / "x.seq.nrrd", samples, np.eye(4), count=count)
    assert list(tmp_path.iterdir()) == []


def test_the_name_must_say_sequence(tmp_path):
    with pytest.raises(ValueError, match=r"\.seq\.nrrd"):
        write_sequence(tmp_path / "x.nrrd", [ONE], np.eye(4), count=1)
