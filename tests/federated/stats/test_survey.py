"""A survey of real scans: names from wherever they stand, places in the patient's own axes, faults told to the site alone."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import InputError
from medseg.federated.label_union import site_labels
from medseg.federated.stats.fingerprint import fingerprint_of
from medseg.federated.stats.places import sides
from medseg.federated.stats.survey import survey
from medseg.labels import LabelTable
from medseg.readers.open import read


@pytest.fixture
def ct(data, tmp_path):
    """A CT whose label map names its 20 and more structures itself, kidneys and lungs of both sides among them."""
    root = data("totalseg")
    for part, file in (("imagesTr", "example_ct_sm.nii.gz"), ("labelsTr", "example_seg.nii.gz")):
        (tmp_path / part).mkdir()
        shutil.copy(root / file, tmp_path / part / "case.nii.gz")
    return tmp_path


def test_structures_of_a_real_ct_lie_on_the_side_that_their_names_say(ct):
    seen = survey(ct)
    assert seen.problems == ()
    own = fingerprint_of(seen, at_least=1)
    assert own.by_name["kidney_left"].mirror == "kidney_right"
    assert own.by_name["kidney_left"].right == 0
    assert own.by_name["kidney_right"].right == 1
    assert own.by_name["liver"].offset_mm[0].median > 0 > own.by_name["spleen"].offset_mm[0].median
    assert sides("a", own) == []


def test_the_same_ct_with_a_mirrored_header_contradicts_its_names(ct):
    for part in ("imagesTr", "labelsTr"):
        path = ct / part / "case.nii.gz"
        image = nib.load(path)
        affine = np.diag([-1.0, 1, 1, 1]) @ image.affine
        image.set_sform(affine)
        image.set_qform(affine)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine, image.header), path)
    found = sides("a", fingerprint_of(survey(ct), at_least=1))
    assert {one.code for one in found} == {"MS-J155"}
    assert any("'kidney_left' lies to the patient's right of 'kidney_right'" in one.what for one in found)


def test_places_are_those_of_a_plain_sum_over_voxels(ct):
    (one,) = survey(ct).seen
    image, label = (read(ct / part / "case.nii.gz") for part in ("imagesTr", "labelsTr"))
    names = {row.name: row.value for row in label.labels}
    a, b = (
        label.grid.to_world(np.argwhere(label.array == names[name])).mean(0) for name in ("kidney_left", "kidney_right")
    )
    assert np.subtract(one.offset_mm["kidney_left"], one.offset_mm["kidney_right"]) == pytest.approx(a - b, abs=1e-6)
    voxels = np.count_nonzero(label.array == names["liver"])
    assert one.volume_ml["liver"] == pytest.approx(voxels * image.grid.voxel_ml)
    grey = one.channels[0].numbers
    assert grey["low"] == pytest.approx(np.quantile(image.array, 0.005), abs=20)
    assert grey["least"] == image.array.min()


def test_names_stand_in_dataset_json_first_then_in_label_maps_then_in_the_bundle(ct, cubes, tmp_path):
    bundle = LabelTable.from_names(["one", "two"])
    assert [row.name for row in survey(ct, labels=bundle).table][:3] == ["spleen", "kidney_right", "kidney_left"]
    plain = cubes(tmp_path / "plain", range(2))
    assert [row.name for row in survey(plain, labels=bundle).table] == ["one", "two"]
    assert [row.name for row in survey(plain).table] == ["label 1", "label 2"]
    said = {"channel_names": {"0": "T1w"}, "labels": {"background": 0, "first": 1, "second": 2}}
    (plain / "dataset.json").write_text(json.dumps(said), encoding="utf-8")
    seen = survey(plain, labels=bundle)
    assert [row.name for row in seen.table] == ["first", "second"]
    assert seen.channels == ("T1w",)


def test_a_site_whose_label_maps_name_their_values_trains_by_these_names(ct):
    found = site_labels(ct, LabelTable.from_names(["Liver", "kidney, left"]))
    moves = dict(zip(found["site_values"], found["union_values"], strict=True))
    assert found["labels_present"] == [1, 2]
    assert {value: new for value, new in moves.items() if new} == {5: 1, 3: 2}
    assert moves[1] == 0, "nobody trains the spleen"


def test_a_case_with_a_fault_is_told_to_the_site_and_counted(cubes, tmp_path):
    root = cubes(tmp_path / "data", range(4))
    (root / "imagesTr" / "cube_02.nii.gz").write_bytes(b"no image")
    heard = []
    seen = survey(root, progress=lambda n, of: heard.append((n, of)))
    assert [one.facts.name for one in seen.seen] == ["cube_00", "cube_01", "cube_03"]
    assert [problem.case for problem in seen.problems] == ["cube_02"]
    assert fingerprint_of(seen, at_least=1).unreadable == 1
    assert heard == [(n, 4) for n in range(1, 5)]
    assert [one.facts.name for one in survey(root, cases=["cube_03"]).seen] == ["cube_03"]


def test_there_is_no_such_folder(tmp_path):
    with pytest.raises(InputError) as raised:
        survey(tmp_path / "nowhere")
    assert raised.value.code == "MS-T103"
