"""Splits: read in every form, drawn with whole subjects on one side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.readers.cases.case import Case
from medseg.training.plan.split import FRACTION, Split, drawn, read_split, split_problems

CASES = [Case(name, (Path(f"{name}.nii.gz"),)) for name in ("a", "b", "c", "d")]
BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("splits.json", {"train": ["a", "b", "c"], "val": ["d"]}),
        ("splits_final.json", [{"train": ["a", "b", "c"], "val": ["d"]}, {"train": ["d"], "val": ["a", "b", "c"]}]),
        ("splits_dev.json", {"train": ["a.nii.gz", "b_0000.nii.gz", "c"], "validation": ["d"]}),
        ("splits.json", {"folds": [{"train": ["a", "b", "c"], "val": ["d"]}]}),
    ],
)
def test_forms_of_json(tmp_path, name, content):
    (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    split = read_split(tmp_path, CASES)
    assert split.train == ("a", "b", "c")
    assert split.validation == ("d",)
    assert name in split.why
    assert split_problems(split, BY_NAME) == []


def test_a_csv_names_subjects_and_parts(tmp_path):
    listed = tmp_path / "subjects.csv"
    listed.write_text("case,subject,split\na,p1,train\nb,p1,val\nc,p2,train\nd,p3,val\n", encoding="utf-8")
    split = read_split(tmp_path, CASES, listed)
    assert split.validation == ("b", "d")
    (problem,) = split_problems(split, BY_NAME)
    assert (problem.code, problem.case, problem.file) == ("MS-T146", "b", "b.nii.gz")
    assert "subject p1 validates with b and trains with a" in problem.what


def test_bids_names_are_subjects(tmp_path):
    names = ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"]
    cases = [Case(name, (Path(name),)) for name in names]
    (tmp_path / "splits.json").write_text(json.dumps({"train": names[:1], "val": names[1:]}), encoding="utf-8")
    split = read_split(tmp_path, cases)
    assert split.subjects["sub-01_ses-2"] == "sub-01"
    assert [p.code for p in split_problems(split, {case.name: case for case in cases})] == ["MS-T146"]


def test_problems_of_a_split():
    split = Split(("a", "b", "x"), ("b", "c"), "", Path("splits.json"), {})
    found = {(p.code, p.case) for p in split_problems(split, BY_NAME)}
    assert found == {("MS-T146", "b"), ("MS-T147", "x")}
    one_sided = Split(("a",), (), "", Path("splits.json"), {})
    assert [p.code for p in split_problems(one_sided, BY_NAME)] == ["MS-T147"]


@pytest.mark.parametrize("text", ["no json", "[]", '{"train": "a", "val": ["b"]}', '{"train": [1], "val": ["b"]}', "3"])
def test_a_file_that_is_no_split_is_refused(tmp_path, text):
    (tmp_path / "splits.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="MS-T147"):
        read_split(tmp_path, CASES)


def test_two_unknown_splits_say_nothing(tmp_path):
    for name in ("splits_a.json", "splits_b.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    assert not read_split(tmp_path, CASES).said


@given(st.lists(st.integers(0, 12), min_size=3, max_size=40), st.integers(0, 5))
def test_subjects_stay_whole_and_both_sides_have_cases(of, seed):
    names = [f"case_{n:02d}" for n in range(len(of))]
    subjects = {name: f"s{subject}" for name, subject in zip(names, of, strict=True)}
    split = drawn(names, subjects, {name: frozenset({1}) for name in names}, seed)
    assert sorted(split.train + split.validation) == names
    sides = {part: {subjects[name] for name in getattr(split, part)} for part in ("train", "validation")}
    assert not sides["train"] & sides["validation"]
    assert split.train
    assert bool(split.validation) == (len(set(of)) > 1)
    assert split == drawn(names, subjects, {name: frozenset({1}) for name in names}, seed)


def test_every_kind_of_case_is_on_both_sides():
    names = [f"case_{n:02d}" for n in range(50)]
    held = {name: frozenset({1, 2}) if n % 5 == 0 else frozenset({1}) for n, name in enumerate(names)}
    split = drawn(names, {}, held)
    assert len(split.validation) == round(FRACTION * 50)
    rare = sum(2 in held[name] for name in split.validation)
    assert rare == 2  # a fifth of the ten
