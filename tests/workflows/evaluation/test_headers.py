"""`medseg evaluate` tells what headers refuse before anything is scored, and scores the others."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.readers.options import ReadOptions
from medseg.workflows.evaluate import evaluate
from medseg.workflows.evaluation.headers import refused_by_headers
from medseg.workflows.evaluation.pairs import pair_up
from medseg.writers.nifti import write_nifti

AFFINE = np.diag([-1.0, 1.5, 2.0, 1.0])


@pytest.fixture
def maps(tmp_path):
    for seed, name in enumerate("abc"):
        array = np.zeros((8, 8, 8), np.uint8)
        array[2:6, 2:6, 2 : 5 + seed] = 1
        for side in ("pred", "ref"):
            write_nifti(tmp_path / side / f"{name}.nii.gz", array, AFFINE)
    return tmp_path


def test_sound_maps_are_not_refused(maps):
    assert refused_by_headers(pair_up(maps / "pred", maps / "ref"), ReadOptions()) == ()


def test_refused_ones_are_told_first_and_fail_alike(maps):
    (maps / "pred" / "a.nii.gz").write_bytes(b"")
    whole = (maps / "ref" / "b.nii.gz").read_bytes()
    (maps / "ref" / "b.nii.gz").write_bytes(whole[:-20])
    heard: list = []
    found = evaluate(
        maps / "pred",
        maps / "ref",
        announce=lambda pairs: heard.append([(row.case, row.code) for row in pairs.refused]),
        progress=lambda done, of, name: heard.append(name),
    )
    assert heard[0] == [("a", "MS-F104"), ("b", "MS-F120")]
    assert heard[1:]
    assert [(row.case, row.code) for row in found.failures] == heard[0]
    assert {row.case for row in found.rows} == {"c"}
