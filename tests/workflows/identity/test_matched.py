"""References called by names and predictions called by pseudonyms: pairs, lists of cases, and what is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.errors import InputError, UsageError
from medseg.workflows.evaluation.pairs import pair_up, people
from medseg.workflows.evaluation.pictures import scans_in
from medseg.workflows.identity.key import FILE, open_key
from medseg.writers.nifti import write_nifti

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.workflows.identity.key import Key

MASK = np.zeros((3, 4, 5), np.uint8)


def maps(folder: Path, *names: str) -> Path:
    for name in names:
        write_nifti(folder / f"{name}.nii.gz", MASK, np.eye(4))
    return folder


@pytest.fixture
def key(tmp_path) -> Key:
    return open_key(tmp_path / "data" / "scans", tmp_path / "out")


def test_pairs_are_made_by_the_key_beside_the_references(tmp_path, key):
    ref = maps(tmp_path / "data" / "refs", "Anna", "Bert", "Curd")
    pred = maps(tmp_path / "out", key.case("Anna"), key.case("bert"), "Curd")  # one was called by its name
    found = pair_up(pred, ref)
    named = {pair.name: pair.ref.files[0].name for pair in found.pairs}
    assert named == {key.case("Anna"): "Anna.nii.gz", key.case("Bert"): "Bert.nii.gz", "Curd": "Curd.nii.gz"}
    assert [pair.name for pair in found.pairs] == sorted(named)
    assert not found.missing
    assert not found.extra


def test_a_reference_without_a_prediction_is_not_named_either(tmp_path, key):
    ref = maps(tmp_path / "data" / "refs", "Anna", "Bert")
    found = pair_up(maps(tmp_path / "out", key.case("Anna")), ref)
    assert found.missing == (key.case("Bert"),)


def test_another_place_of_the_key_is_named(tmp_path, key):
    ref = maps(tmp_path / "elsewhere", "Anna")
    pred = maps(tmp_path / "out", key.case("Anna"), key.case("Bert"))
    with pytest.raises(InputError, match="--case-key") as caught:
        pair_up(pred, ref)
    assert caught.value.code == "MS-E101"
    assert "Anna" not in str(caught.value)
    (pair,) = pair_up(pred, ref, key_file=key.file).pairs
    assert pair.pred is not None
    with pytest.raises(UsageError) as refused:
        pair_up(pred, ref, key_file=pred / "none.json")
    assert refused.value.code == "MS-U401"


def test_two_single_files_need_no_key_and_take_the_pseudonym(tmp_path, key):
    pred = maps(tmp_path / "out", key.case("Anna")) / f"{key.case('Anna')}.nii.gz"
    ref = maps(tmp_path / "elsewhere", "Anna") / "Anna.nii.gz"
    found = pair_up(pred, ref)
    assert [pair.name for pair in found.pairs] == [key.case("Anna")]
    assert "Anna" not in found.calls.of(found.pairs[0].name, found.pairs[0].ref.files).path(ref)


def test_names_on_both_sides_stay_and_the_key_is_not_asked(tmp_path, key):
    (tmp_path / "data" / FILE).write_text("broken")
    found = pair_up(maps(tmp_path / "out", "Anna"), maps(tmp_path / "data" / "refs", "Anna"))
    assert [pair.name for pair in found.pairs] == ["Anna"]
    assert found.calls.of().name("refs") == "refs"


def test_lists_may_call_cases_either_way_and_subjects_get_pseudonyms(tmp_path, key):
    ref = maps(tmp_path / "data" / "refs", "Anna", "Bert")
    found = pair_up(maps(tmp_path / "out", key.case("Anna"), key.case("Bert")), ref)
    listed = tmp_path / "people.csv"
    listed.write_text(f"case,subject,site\nAnna,P17,north\n{key.case('Bert')},P17,south\n")
    of = people(listed, tuple(pair.name for pair in found.pairs), found.calls)
    assert {name: (who.subject, who.columns["site"]) for name, who in of.items()} == {
        key.case("Anna"): (key.subject("P17"), "north"),
        key.case("Bert"): (key.subject("P17"), "south"),
    }


def test_scans_are_known_by_name_too(tmp_path, key):
    ref = maps(tmp_path / "data" / "refs", "Anna")
    found = pair_up(maps(tmp_path / "out", key.case("Anna")), ref)
    scans = scans_in(maps(tmp_path / "data" / "scans", "Anna"), found.calls)
    assert {"anna", key.case("Anna")} <= set(scans)
