"""Sites of real scans, and one that is planted among them with something wrong: it is found, and nothing else is."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from medseg.federated.stats.agreement import agree, bins_for, compare
from medseg.federated.stats.fingerprint import fingerprint_of
from medseg.federated.stats.fingerprint_json import from_json, to_json
from medseg.federated.stats.survey import survey
from medseg.training.plan.spacing import target_spacing

EACH = 10


@pytest.fixture(scope="module")
def scans(data):
    """Three times ten cases of the hippocampus set: [[(name, image, label, affine), ...], ...]."""
    root = data("hippocampus")
    files = sorted((root / "imagesTr").glob("[!.]*.nii.gz"))[: 3 * EACH]
    cases = []
    for file in files:
        image, label = nib.load(file), nib.load(root / "labelsTr" / file.name)
        cases.append((file.name, np.asarray(image.dataobj), np.asarray(label.dataobj), image.affine))
    return [cases[n::3] for n in range(3)]


@pytest.fixture(scope="module")
def look(scans, tmp_path_factory):
    """`look(n, change, names)`: the survey of the nth ten cases, each `change(image, label, affine)`d; made once."""
    made = {}

    def surveyed(n, change=None, names=("anterior", "posterior")):
        key = (n, getattr(change, "__name__", None), names)
        if key not in made:
            root = tmp_path_factory.mktemp("site")
            for name, image, label, affine in scans[n]:
                changed = (image, label, affine) if change is None else change(image, label, affine)
                for part, array in zip(("imagesTr", "labelsTr"), changed[:2], strict=True):
                    (root / part).mkdir(exist_ok=True)
                    nib.save(nib.Nifti1Image(array, changed[2]), root / part / name)
            labels = {"background": 0, **{name: value for value, name in enumerate(names, 1)}}
            (root / "dataset.json").write_text(json.dumps({"labels": labels, "channel_names": {"0": "T1w"}}), "utf-8")
            made[key] = survey(root)
            assert len(made[key].seen) == EACH, made[key].problems
        return made[key]

    return surveyed


def agreed(**surveys):
    """As the server does: first without histograms, then with bins that all share."""
    first = {name: fingerprint_of(one) for name, one in surveys.items()}
    bins = bins_for(list(first.values()))
    sent = {name: json.loads(json.dumps(to_json(fingerprint_of(one, bins)))) for name, one in surveys.items()}
    return agree({name: from_json(one) for name, one in sent.items()})


def told(found):
    return {(one.site, one.code) for one in found.findings}


def added(image, label, affine):
    spread = float(np.quantile(image, 0.995) - np.quantile(image, 0.005))
    return (image + 0.3 * spread).astype(np.float32), label, affine


def doubled(image, label, affine):
    return (image * 10.0).astype(np.float32), label, affine


def gamma(image, label, affine):
    top = float(image.max())
    return (top * (image / top) ** 0.4).astype(np.float32), label, affine


def coarse(image, label, affine):
    return image[::2, ::2, ::2], label[::2, ::2, ::2], affine @ np.diag([2.0, 2.0, 2.0, 1.0])


def exchanged(image, label, affine):
    return image, np.array([0, 2, 1], np.uint8)[label.astype(int)], affine


def halves(image, label, affine):
    """All that is labelled, cut through its middle: 1 on the patient's left."""
    index = np.argwhere(label > 0)
    x = index @ affine[:3, :3][0] + affine[0, 3]
    out = np.zeros(label.shape, np.uint8)
    out[tuple(index.T)] = np.where(x < x.mean(), 1, 2)
    return image, out, affine


def swapped_halves(image, label, affine):
    image, label, affine = halves(image, label, affine)
    return exchanged(image, label, affine)


def mirrored_header(image, label, affine):
    image, label, affine = halves(image, label, affine)
    return image, label, np.diag([-1.0, 1, 1, 1]) @ affine


def test_sites_of_one_kind_agree(look):
    found = agreed(a=look(0), b=look(1), c=look(2))
    assert found.findings == ()
    assert found.sound
    assert found.spacing_mm == (1.0, 1.0, 1.0)
    assert [step["_target_"] for step in found.steps] == ["ScaleIntensityRangePercentilesd", "NormalizeIntensityd"]
    assert found.pooled.cases == 3 * EACH
    assert sum(found.pooled.channels[0].grey) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "code", "what"),
    [
        (added, "MS-J151", "something was added to the grey values"),
        (doubled, "MS-J151", "grey values of another size"),
        (gamma, "MS-J152", "form of the grey values"),
        (coarse, "MS-J153", "voxels of 2 x 2 x 2 mm (median), elsewhere of 1 x 1 x 1 mm"),
        (exchanged, "MS-J156", "'anterior' lies where 'posterior' lies elsewhere"),
    ],
)
def test_what_is_planted_at_one_site_is_found_there_and_nowhere_else(look, change, code, what):
    found = agreed(a=look(0), b=look(1), c=look(2, change))
    assert {site for site, _ in told(found)} == {"c"}
    (one,) = [finding for finding in found.findings if finding.code == code]
    assert what in one.what
    assert one.mend
    assert found.sound == (code != "MS-J156")


@pytest.mark.parametrize("change", [swapped_halves, mirrored_header])
def test_left_and_right_that_are_exchanged_contradict_their_names(look, change):
    names = ("hippocampus left", "hippocampus right")
    found = agreed(a=look(0, halves, names), b=look(1, halves, names), c=look(2, change, names))
    assert told(found) == {("c", "MS-J155")}
    assert any(
        "to the patient's right of 'hippocampus right' in 100 % of 10 cases" in one.what for one in found.findings
    )
    assert not found.sound


def test_a_site_finds_by_itself_that_its_sides_contradict_their_names(look):
    names = ("hippocampus left", "hippocampus right")
    own = fingerprint_of(look(2, swapped_halves, names))
    assert {one.code for one in compare("c", own, fingerprint_of(look(2, swapped_halves, names)))} == {"MS-J155"}
    good = fingerprint_of(look(0, halves, names))
    assert compare("a", good, own) == (), "the others' sides are wrong, not these"


def test_without_names_of_sides_the_others_tell(look):
    names = ("one", "two")
    found = agreed(a=look(0, halves, names), b=look(1, halves, names), c=look(2, swapped_halves, names))
    assert {site for site, _ in told(found)} == {"c"}
    assert "when left and right are exchanged" in found.findings[0].what


def test_of_two_sites_that_differ_each_is_told_of(look):
    found = agreed(a=look(0), c=look(2, coarse))
    assert {("a", "MS-J153"), ("c", "MS-J153")} <= told(found)


def test_other_names_and_sets_of_labels_are_found_and_united(look):
    found = agreed(a=look(0), b=look(1, None, ("Posterior", "tail")), c=look(2, None, ("anterior", "posterior")))
    texts = [one.what for one in found.findings if one.site == "b"]
    assert "label 1 is 'Posterior', elsewhere 'anterior'" in texts
    assert "'tail' is labelled here alone" in texts
    assert "'anterior' is not labelled here" in texts
    assert {row.value: row.name for row in found.union.table} == {1: "anterior", 2: "posterior", 3: "tail"}
    assert found.union.values["b"] == {1: 2, 2: 3}
    assert found.union.present == {"a": (1, 2), "b": (2, 3), "c": (1, 2)}
    assert found.union.partial


def test_few_cases_say_nothing(look):
    few = replace(look(2), seen=look(2).seen[:4])
    found = agreed(a=look(0), b=look(1), c=few)
    assert told(found) == {("c", "MS-J161")}
    own = found.sites["c"]
    assert (own.cases, own.spacing_mm, dict(own.channels[0].numbers), own.channels[0].grey) == (0, None, {}, ())
    assert [(one.cases, one.volume_ml, one.offset_mm) for one in own.structures] == [(None, None, None)] * 2
    assert found.pooled.cases == 2 * EACH


def test_what_every_site_may_see_names_no_site(look):
    found = agreed(first_clinic=look(0), other_clinic=look(1), c=look(2, coarse))
    open_to_all = found.to_json(single_sites=False)
    assert set(open_to_all) == {"pooled", "spacing_mm", "normalisation", "choices", "union"}
    assert from_json(open_to_all["pooled"]).cases == 3 * EACH
    assert {one["code"] for one in found.to_json()["findings"]} >= {"MS-J153"}


def test_the_agreed_spacing_is_that_of_the_plan_on_all_cases(look):
    found = agreed(a=look(0), b=look(1, coarse), c=look(2, coarse))
    every = [one.facts for n, change in ((0, None), (1, coarse), (2, coarse)) for one in look(n, change).seen]
    assert found.spacing_mm == target_spacing(every)[0] == (2.0, 2.0, 2.0)


def test_ct_is_pooled_in_hounsfield_units(look):
    """Grey values made such that air is -1000: the quantiles of tissue are those of all voxels put together."""

    def ct(image, label, affine):
        scaled = 1200 * (image / np.quantile(image, 0.995)).clip(0, 1) - 1000
        return scaled.astype(np.float32), label, affine

    surveys = {"a": look(0, ct), "b": look(1, ct)}
    found = agreed(**surveys)
    assert found.pooled.channels[0].bins.unit == "raw"
    (step,) = found.steps
    tissue = np.concatenate([one.channels[0].tissue for s in surveys.values() for one in s.seen])
    assert step["a_min"] == pytest.approx(np.quantile(tissue, 0.005), abs=40)
    assert step["a_max"] == pytest.approx(np.quantile(tissue, 0.995), abs=40)


@pytest.mark.parametrize("seed", range(4))
def test_sites_drawn_at_random_differ_by_chance_alone(look, seed):
    seen = [one for n in range(3) for one in look(n).seen]
    random.Random(seed).shuffle(seen)
    sizes = (14, 10, 6)
    parts = [replace(look(0), seen=tuple(seen[sum(sizes[:n]) : sum(sizes[: n + 1])])) for n in range(3)]
    assert agreed(**{f"s{n}": part for n, part in enumerate(parts)}).findings == ()


def test_there_is_no_agreement_of_nobody():
    with pytest.raises(ValueError, match="a pool of no site"):
        agree({})
