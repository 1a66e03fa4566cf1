"""The JSON beside a label map: what it may say, and what is refused."""

from __future__ import annotations

import json

import pytest

from medseg.errors import InputError
from medseg.readers.instance_table import InstanceTable, read_table, table_beside


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_it_lies_beside_the_label_map(tmp_path, suffix):
    assert table_beside(tmp_path / f"a.b{suffix}") == tmp_path / "a.b.json"


def test_nndetections_form_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"instances": {"1": 0, "12": 3}, "size": [1, 2, 3]}', encoding="utf-8")
    assert read_table(tmp_path / "a.json") == InstanceTable({1: 0, 12: 3})


def test_boxes_and_regions_to_ignore_are_read(tmp_path):
    text = json.dumps({"instances": {"1": 0}, "box_only": [1], "ignore": [7, "8"]})
    (tmp_path / "a.json").write_text(text, encoding="utf-8-sig")  # with the mark that Windows editors set
    assert read_table(tmp_path / "a.json") == InstanceTable({1: 0}, frozenset([1]), frozenset([7, 8]))


def test_without_instances_every_id_is_of_class_0(tmp_path):
    (tmp_path / "a.json").write_text('{"ignore": [2]}', encoding="utf-8")
    assert read_table(tmp_path / "a.json") == InstanceTable(None, frozenset(), frozenset([2]))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "no valid JSON"),
        ("[1]", "no JSON object"),
        ('{"instances": [0, 1]}', "does not map"),
        ('{"instances": {"0": 1}}', "'0' is no instance id"),
        ('{"instances": {"1.5": 1}}', "'1.5' is no instance id"),
        ('{"instances": {"1": "lesion"}}', "'lesion' is no class index"),
        ('{"instances": {"1": -1}}', "'-1' is no class index"),
        ('{"instances": {"1": true}}', "'True' is no class index"),
        ('{"box_only": 3}', "no list of ids"),
        ('{"ignore": [true]}', "'True' is no instance id"),
    ],
)
def test_anything_else_is_refused(tmp_path, text, found):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=found) as error:
        read_table(tmp_path / "a.json")
    assert error.value.code == "MS-T121"
    assert error.value.file == str(tmp_path / "a.json")
