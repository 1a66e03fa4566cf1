"""What leaves a site is counts and quantiles of enough cases: closed forms, and nothing that points to a patient."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from medseg.bundle.intensity import FORM
from medseg.errors import InputError
from medseg.federated.stats.fingerprint import AT_LEAST, SCAN_BINS, Bins, fingerprint_of
from medseg.federated.stats.fingerprint_json import from_json, to_json
from medseg.federated.stats.survey import survey

#: Everything that may be in a fingerprint, by hand.
KEYS = {
    "version", "cases", "at_least", "unreadable", "modality", "spacing_mm", "extent_mm", "channels", "structures",
    "name", "numbers", "bins", "grey", "tissue", "value", "volume_ml", "offset_mm", "mirror", "right",
    "n", "q", "unit", "low", "high", "floor", "level", "zero", "least", "zeros", *FORM,
}  # fmt: skip


@pytest.fixture(scope="module")
def seen(data, tmp_path_factory):
    """Eight scans of the hippocampus set under names and headers that must not leave; one has no left half."""
    root, source = tmp_path_factory.mktemp("1945-12-31 SURNAME"), data("hippocampus")
    for n, file in enumerate(sorted((source / "imagesTr").glob("[!.]*.nii.gz"))[:8]):
        image, label = nib.load(file), nib.load(source / "labelsTr" / file.name)
        image.header["descrip"] = b"SURNAME 19451231"
        array = np.asarray(label.dataobj).copy()
        array[array == 1] = 0 if n == 7 else 1
        for part, made in (("imagesTr", image), ("labelsTr", nib.Nifti1Image(array, label.affine))):
            (root / part).mkdir(exist_ok=True)
            nib.save(made, root / part / f"SURNAME_19451231_{n}.nii.gz")
    said = {
        "name": "SURNAME", "description": "SURNAME", "channel_names": {"0": "of 19451231"},
        "labels": {"background": 0, "hippocampus left": 1, "SURNAME_1945-12-31.nii.gz": 2},
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(said), encoding="utf-8")
    return survey(root)


def walked(node):
    """Every key and every text of plain data."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield "key", key
            yield from walked(value)
    elif isinstance(node, list):
        for value in node:
            yield from walked(value)
    elif isinstance(node, str):
        yield "text", node


def test_nothing_that_identifies_is_in_a_fingerprint(seen):
    sent = to_json(fingerprint_of(seen, [SCAN_BINS]))
    assert {key for kind, key in walked(sent) if kind == "key"} <= KEYS
    assert {text for kind, text in walked(sent) if kind == "text"} == {
        "channel 0", "hippocampus left", "structure 2", "scan",
    }  # fmt: skip
    text = json.dumps(sent)
    assert [secret for secret in ("SURNAME", "1945", "nii", seen.seen[0].facts.digest[:8]) if secret in text] == []
    assert from_json(json.loads(text)) == fingerprint_of(seen, [SCAN_BINS])


def test_its_numbers_are_quantiles_over_cases(seen):
    own = fingerprint_of(seen, [SCAN_BINS])
    volumes = [one.volume_ml["hippocampus left"] for one in seen.seen if "hippocampus left" in one.volume_ml]
    left = own.by_name["hippocampus left"]
    assert (left.cases, left.volume_ml.n) == (7, 7)
    assert left.volume_ml.median == pytest.approx(np.median(volumes), rel=1e-3)
    levels = [one.channels[0].numbers["level"] for one in seen.seen]
    assert own.channels[0].numbers["level"].values[0] == pytest.approx(np.quantile(levels, 0.05), rel=1e-3)
    assert [sketch.median for sketch in own.spacing_mm] == [1.0, 1.0, 1.0]


def test_where_a_structure_lies_is_told_in_the_patients_own_axes(seen):
    a, b = (np.array(x) for x in zip(*[tuple(s.offset_mm.values()) for s in seen.seen[:7]], strict=True))
    assert (a[:, 1] > b[:, 1]).all(), "label 1 is anterior in these scans: a larger A in RAS"


@pytest.mark.parametrize("at_least", [7, 8, 9])
def test_what_rests_on_too_few_cases_is_left_out(seen, at_least):
    own = fingerprint_of(seen, [SCAN_BINS], at_least)
    left, other = own.structures
    assert (own.cases > 0) == (own.spacing_mm is not None) == bool(own.channels[0].grey) == (at_least <= 8)
    assert (left.cases, left.volume_ml is None) == {7: (7, False), 8: (None, True), 9: (None, True)}[at_least]
    assert (other.cases, other.offset_mm is None) == ((None, True) if at_least == 9 else (8, False))
    assert from_json(to_json(own)) == own


def test_a_structure_that_no_case_has_is_told_of_as_0(seen):
    none = replace(seen, seen=tuple(replace(one, offset_mm={}, volume_ml={}) for one in seen.seen))
    assert [one.cases for one in fingerprint_of(none).structures] == [0, 0]


def test_a_histogram_tells_no_voxel_of_fewer_cases(seen):
    """A bright voxel of one case is told at the mean of what enough cases have."""
    bright = replace(seen.seen[0].channels[0], grey=np.append(seen.seen[0].channels[0].grey, 1e9).astype(np.float32))
    planted = replace(seen, seen=(replace(seen.seen[0], channels=(bright,)), *seen.seen[1:]))
    bins = Bins("raw", -1e3, 1e9, 100)
    found = fingerprint_of(planted, [bins]).channels[0].grey
    assert found[-1] == 0
    assert sum(found) == pytest.approx(1, abs=1e-3)
    plain = fingerprint_of(seen, [SCAN_BINS]).channels[0]
    by_hand = np.mean(
        [
            SCAN_BINS.counts(c.grey, c.numbers["low"], c.numbers["high"]) / len(c.grey)
            for c in (one.channels[0] for one in seen.seen)
        ],
        axis=0,
    )
    middle = slice(15, 45)
    assert np.array(plain.grey)[middle] == pytest.approx(by_hand[middle], abs=1e-4)
    assert SCAN_BINS.centres @ np.array(plain.grey) == pytest.approx(SCAN_BINS.centres @ by_hand, abs=0.01)


def test_bins_count_by_hand():
    bins = Bins("scan", 0.0, 1.0, 4)
    assert bins.counts(np.array([10.0, 12.0, 16.0, 20.0, 99.0, -5.0]), 10.0, 20.0).tolist() == [3, 0, 1, 2]
    assert Bins("raw", 0.0, 4.0, 2).counts(np.array([1.0, 2.0, 3.9]), 0, 0).tolist() == [1, 2]
    assert bins.centres.tolist() == [0.125, 0.375, 0.625, 0.875]


def set_at(data, path, value):
    *way, last = path
    for step in way:
        data = data[step]
    data[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["patient"], "SURNAME"),
        (["channels", 0, "file"], "a.nii.gz"),
        (["channels", 0, "name"], "a.nii.gz"),
        (["channels", 0, "name"], "12345678"),
        (["channels", 0, "numbers", "age"], {"n": 8, "q": [1] * 7}),
        (["channels", 0, "numbers", "zero"], {"n": 8, "q": [1] * 6}),
        (["channels", 0, "numbers", "zero"], {"n": 8, "q": [7, 6, 5, 4, 3, 2, 1]}),
        (["channels", 0, "numbers", "zero"], {"n": 2, "q": [1] * 7}),
        (["channels", 0, "numbers", "zero"], {"n": 8, "q": [float("nan")] * 7}),
        (["channels", 0, "numbers", "zero"], {"n": 8, "q": ["SURNAME"] * 7}),
        (["channels", 0, "bins", "unit"], "SURNAME"),
        (["channels", 0, "bins", "n"], 10**6),
        (["channels", 0, "grey"], [2.0] * 60),
        (["channels", 0, "grey"], [0.1]),
        (["structures", 0, "name"], "SURNAME 1945-12-31"),
        (["structures", 0, "cases"], 2),
        (["structures", 0, "right"], True),
        (["modality"], {"surname": 8}),
        (["modality"], "SURNAME"),
        (["cases"], 3),
        (["cases"], 8.5),
        (["version"], 2),
        (["spacing_mm"], [1, 2, 3]),
        (["structures"], "SURNAME"),
    ],
)
def test_anything_else_is_refused_and_not_repeated(seen, path, value):
    sent = json.loads(json.dumps(to_json(fingerprint_of(seen, [SCAN_BINS]))))
    from_json(sent)
    set_at(sent, path, value)
    with pytest.raises(InputError, match="no fingerprint of a site") as raised:
        from_json(sent)
    assert raised.value.code == "MS-J170"
    assert "SURNAME" not in raised.value.what.upper()


@pytest.mark.parametrize("data", [None, [], "SURNAME", {}, {"version": 1}])
def test_what_is_no_fingerprint_at_all_is_refused(data):
    with pytest.raises(InputError, match="no fingerprint") as raised:
        from_json(data)
    assert "SURNAME" not in str(raised.value)


def test_the_least_number_of_cases_is_what_the_documentation_says():
    assert AT_LEAST == 5
