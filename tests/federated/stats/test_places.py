"""Sides and exchanged structures of bodies that are made so that the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.federated.stats.fingerprint import Fingerprint, Structure
from medseg.federated.stats.places import arrangement, sides
from medseg.federated.stats.sketch import sketch_of

#: R, A, S in mm: right is positive.
BODY = {"liver": (60, 10, 0), "spleen": (-90, -20, 10), "kidney left": (-60, -40, -60), "kidney right": (60, -40, -70)}
MIRRORS = {"kidney left": "kidney right", "kidney right": "kidney left"}


def site(places, seed=0, n=12, spread=8.0, mirrors=MIRRORS):
    """Bodies that differ from each other by `spread` mm."""
    rng = np.random.default_rng(seed)
    made = {name: np.array(place, float) + rng.normal(0, spread, (n, 3)) for name, place in places.items()}
    rows = []
    for value, (name, cases) in enumerate(made.items(), 1):
        offset = tuple(sketch_of(axis) for axis in cases.T)
        other = mirrors.get(name)
        right = None if other not in made else float(np.mean(cases[:, 0] > made[other][:, 0]))
        rows.append(Structure(name, value, n, sketch_of([10.0] * n), offset, other, right))
    return Fingerprint(n, 5, 0, {}, None, None, (), tuple(rows))


def exchanged(a, b):
    return {**BODY, a: BODY[b], b: BODY[a]}


def mirrored():
    return {name: (-x, y, z) for name, (x, y, z) in BODY.items()}


@pytest.mark.parametrize("seed", range(20))
def test_bodies_that_differ_by_chance_fit(seed):
    own, others = site(BODY, seed), site(BODY, seed + 100)
    assert sides("a", own) == []
    assert arrangement("a", own, others) == []


def test_what_lies_a_little_off_is_not_exchanged():
    moved = {name: (x + 15, y - 10, z + 20) for name, (x, y, z) in BODY.items()}
    moved["spleen"] = (-75, -30, 20)
    assert arrangement("a", site(moved), site(BODY, 1)) == []


def test_a_structure_called_left_that_lies_right_of_its_partner():
    (found,) = sides("a", site(exchanged("kidney left", "kidney right")))
    assert (found.code, found.verdict, found.site) == ("MS-J155", "fail", "a")
    assert "'kidney left' lies to the patient's right of 'kidney right' in 100 % of 12 cases" in found.what


def test_a_single_structure_on_the_other_side_than_its_name_says():
    (found,) = sides("a", site({"kidney left": (60, -40, -60)}, mirrors={}))
    assert (found.code, found.verdict) == ("MS-J155", "warn")
    assert "to the right of the body's middle" in found.what
    assert sides("a", site({"kidney left": (-60, -40, -60), "right lung": (50, 0, 0)}, mirrors={})) == []
    assert sides("a", site({"left atrium": (1, 20, 0)}, mirrors={})) == [], "it lies in the middle"


def test_a_mirrored_body_is_told_of_as_a_whole():
    (found,) = arrangement("a", site(mirrored(), mirrors={}), site(BODY, 1, mirrors={}))
    assert (found.code, found.topic) == ("MS-J155", "mirror")


@pytest.mark.parametrize(
    ("a", "b", "code"), [("liver", "spleen", "MS-J156"), ("kidney left", "kidney right", "MS-J155")]
)
def test_two_structures_that_are_exchanged_are_named(a, b, code):
    (found,) = arrangement("a", site(exchanged(a, b)), site(BODY, 1))
    assert found.code == code
    assert a in found.what
    assert b in found.what


def test_names_that_prove_the_own_sides_put_the_fault_elsewhere():
    others = site(exchanged("kidney left", "kidney right"), 1)
    assert arrangement("a", site(BODY), others) == []
    assert len(arrangement("b", others, site(BODY))) == 1


def test_less_than_two_structures_in_common_cannot_be_compared():
    assert arrangement("a", site({"liver": (60, 10, 0)}), site(BODY)) == []
    assert arrangement("a", site({"heart": (0, 10, 0), "lung": (40, 0, 0)}), site(BODY)) == []


def test_where_the_body_is_told_to_be_does_not_matter():
    """Offsets are from the body's middle, of which one site may see another part."""
    moved = {name: (x + 200, y, z - 300) for name, (x, y, z) in exchanged("liver", "spleen").items()}
    assert [one.code for one in arrangement("a", site(moved), site(BODY, 1))] == ["MS-J156"]
