from __future__ import annotations

import numpy as np
import pytest

from medseg.workflows.ranking.look import Look
from medseg.workflows.ranking.measures import CRITERIA, Measures
from medseg.workflows.ranking.table import COLUMNS, TITLES, ranked

LOOKS = [
    Look("a", Measures(0.9, 0.1, 0.2, 3.0), np.array([0.0]), ("pool/a_0000.nii.gz", "pool/a_0001.nii.gz")),
    Look("b", Measures(0.8, 0.2, 0.1, 2.0), np.array([0.0]), ("pool/b.nii.gz",)),
    Look("c", Measures(0.1, 0.3, 0.3, 0.0), np.array([1.0]), ("pool/c.nii.gz",), "yes"),
]


@pytest.mark.parametrize(("by", "wanted"), [("entropy", "acb"), ("mutual-information", "cba"), ("disagreement", "cab")])
def test_each_criterion_ranks_by_its_own_measure(by, wanted):
    rows = ranked(LOOKS, by)
    assert [row.case for row in rows] == list(wanted)
    assert [row.rank for row in rows] == [1, 2, 3]
    assert all(row.score == getattr(row.measures, CRITERIA[by]) for row in rows)


def test_a_row():
    first, second, third = (row.row() for row in ranked(LOOKS, "entropy"))
    assert set(first) == set(COLUMNS)
    assert (first["diversity"], first["nearest"]) == ("", "")
    assert first["images"] == "pool/a_0000.nii.gz; pool/a_0001.nii.gz"
    assert (second["nearest"], second["outside_domain"]) == ("a", "yes")
    assert second["diversity"] == pytest.approx(1 / np.std([0, 0, 1]), abs=1e-6)
    assert second["why"].endswith("unlike those before, nothing found")
    assert (third["diversity"], third["why"].split(", ")[-1]) == (0.0, "as good as a copy of a")


def test_the_first_are_the_first_of_all():
    assert repr(ranked(LOOKS, "entropy", 2)) == repr(ranked(LOOKS, "entropy")[:2])
    assert len(ranked(LOOKS, "entropy", 10)) == 3
    assert ranked([], "entropy") == []


def test_every_criterion_has_a_title():
    assert set(TITLES) == set(CRITERIA)
