"""One case of the pool: the same whatever its axes, known again by its record."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg.bundle.load import load_bundle
from medseg.bundle.uncertainty import Declared
from medseg.errors import DomainError, MemoryLimitError
from medseg.readers.cases import find_cases, load_case
from medseg.volume import Volume
from medseg.workflows.method import parse_method
from medseg.workflows.ranking.look import How, look_at, read_look
from medseg.writers.nifti import write_nifti
from tests.workflows.conftest import AFFINE, blocks

FIXED = {"bundle": "toy"}


@pytest.fixture(scope="module")
def how(toy_bundle):
    bundle = load_bundle(toy_bundle)
    other = copy.deepcopy(bundle.network)
    with torch.no_grad():
        other.model[2].conv.bias[1] += 0.05
    bundle = replace(bundle, uncertainty=Declared(weights=("other",)), members=lambda: (bundle.network, other))
    return How(bundle, parse_method("ensemble"), FIXED)


def case_of(folder, array, affine):
    write_nifti(folder / "scan.nii.gz", array, affine)
    (case,) = find_cases(folder / "scan.nii.gz")
    return case, load_case(case)


def test_what_is_found(how, tmp_path):
    case, volume = case_of(tmp_path, blocks(), AFFINE)
    look = look_at(case, volume, how, tmp_path / "out")
    assert {m.structure: m.voxels for m in look.structures} == {"dim": 125, "bright": 150 + 1}, "nothing is cleaned"
    assert look.measures.foreground_ml == pytest.approx(276 * 0.003)
    assert look.images == ("scan.nii.gz",)
    assert (look.mark, look.outside, look.notes) == ("no", (), ())
    assert (tmp_path / "out" / "preview.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("axcodes", ["LPS", "SAR", "PIR"])
def test_how_a_scan_is_stored_changes_nothing(how, tmp_path, axcodes):
    case, volume = case_of(tmp_path / "plain", blocks(), AFFINE)
    plain = look_at(case, volume, how, tmp_path / "plain out")
    turned = Volume(blocks(), AFFINE).reoriented(axcodes)
    case, volume = case_of(tmp_path / "turned", np.ascontiguousarray(turned.array), turned.affine)
    look = look_at(case, volume, how, tmp_path / "turned out")
    assert look.measures == plain.measures
    assert np.array_equal(look.features, plain.features)
    assert look.structures == plain.structures


def test_a_record_gives_the_same_look(how, tmp_path):
    case, volume = case_of(tmp_path, blocks(), AFFINE)
    folder = tmp_path / "out"
    look = look_at(case, volume, how, folder)
    found = read_look(case, folder, how)
    assert (found.name, found.measures, found.images, found.mark) == (look.name, look.measures, look.images, look.mark)
    assert np.array_equal(found.features, look.features), "to the last bit"
    assert read_look(case, folder, replace(how, fixed={"bundle": "another"})) is None
    assert read_look(case, tmp_path / "nowhere", how) is None


@pytest.mark.parametrize("damage", ["features", "measures", "outputs", "input", "outside_domain"])
def test_half_a_record_is_none(how, tmp_path, damage):
    case, volume = case_of(tmp_path, blocks(), AFFINE)
    look_at(case, volume, how, tmp_path / "out")
    place = tmp_path / "out" / "record.json"
    record = json.loads(place.read_text(encoding="utf-8"))
    del record[damage]
    place.write_text(json.dumps(record), encoding="utf-8")
    assert read_look(case, tmp_path / "out", how) is None


def test_another_scan_or_another_picture_is_none(how, tmp_path):
    case, volume = case_of(tmp_path, blocks(), AFFINE)
    look_at(case, volume, how, tmp_path / "out")
    picture = (tmp_path / "out" / "preview.png").read_bytes()
    (tmp_path / "out" / "preview.png").write_bytes(picture + b" ")
    assert read_look(case, tmp_path / "out", how) is None
    (tmp_path / "out" / "preview.png").write_bytes(picture)
    assert read_look(case, tmp_path / "out", how) is not None
    write_nifti(case.images[0], blocks(1), AFFINE)
    assert read_look(case, tmp_path / "out", how) is None


def test_a_scan_unlike_the_training_data(how, tmp_path):
    case, volume = case_of(tmp_path, blocks(), np.diag([40.0, 40.0, 40.0, 1.0]))
    with pytest.raises(DomainError, match="MS-X102"):
        look_at(case, volume, how, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    look = look_at(case, volume, replace(how, outside_domain=True), tmp_path / "out")
    assert look.mark == "yes"
    assert len(look.outside) == 2


def test_out_of_memory_says_what_to_do(how, tmp_path):
    def full(data):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")

    case, volume = case_of(tmp_path, blocks(), AFFINE)
    with pytest.raises(MemoryLimitError, match=r"MS-M310 .*\n.*close other programs"):
        look_at(case, volume, replace(how, bundle=replace(how.bundle, preprocessing=full)), tmp_path / "out")


def test_a_bug_is_not_taken_for_a_lack_of_memory(how, tmp_path):
    def wrong(data):
        raise RuntimeError("shapes do not match")

    case, volume = case_of(tmp_path, blocks(), AFFINE)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        look_at(case, volume, replace(how, bundle=replace(how.bundle, preprocessing=wrong)), tmp_path / "out")
