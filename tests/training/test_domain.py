"""What `medseg train` writes into a run of the scans it trains with, against the domain that is measured by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medseg.bundle.domain import Domain, check_domain, measure_domain
from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.training.domain import declare, domain_of
from medseg.volume import Source, Volume
from medseg.writers.nifti import write_nifti

TABLE = LabelTable.from_json([{"value": 1, "name": "one"}, {"value": 2, "name": "two"}])
AFFINE = np.diag([2.0, 1.0, 1.0, 1.0])


def image(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(16, 20, 18))
    return (200 + 10 * (noise + np.roll(noise, 1, 0))).astype(np.float32)


def case(folder, seed, label, table=None):
    """A scan and its label map on the disk, as in a data list."""
    write_nifti(folder / "images" / f"{seed}.nii.gz", image(seed), AFFINE)
    write_nifti(folder / "labels" / f"{seed}.nii.gz", label, AFFINE)
    if table is not None:
        (folder / "labels" / f"{seed}.json").write_text(json.dumps(table), encoding="utf-8")
    return {key: str(folder / f"{key}s" / f"{seed}.nii.gz") for key in ("image", "label")}


def drawn(**voxels: int) -> np.ndarray:
    """So many voxels (2 mm3 each) of each value: `drawn(v1=500)`."""
    label = np.zeros((16, 20, 18), np.uint8)
    values = np.concatenate([np.full(n, int(name[1:]), np.uint8) for name, n in voxels.items()])
    label.ravel()[: len(values)] = values
    return label


def test_it_is_measured_on_the_cases(tmp_path):
    labels = [drawn(v1=500, v2=100), drawn(v1=700, v2=50), drawn(v1=600)]
    found = domain_of([case(tmp_path, n, label) for n, label in enumerate(labels)], TABLE)
    by_hand = measure_domain([Volume(image(n), AFFINE, Source(format="array")) for n in range(3)])
    assert {key: found[key] for key in ("cases", "extent_mm", "spacing_mm", "modality")} == {
        "cases": 3, "extent_mm": [[32.0, 32.0], [20.0, 20.0], [18.0, 18.0]],
        "spacing_mm": [[2.0, 2.0], [1.0, 1.0], [1.0, 1.0]], "modality": [],
    }  # fmt: skip
    for key, span in by_hand["intensity"][0].items():
        assert found["intensity"][0][key] == pytest.approx(span, abs=2e-4)
    assert found["volume_ml"] == {"one": [1.0, 1.4]}, "two is absent from a case: its absence is no news"


def test_cases_that_are_seen_several_times_an_epoch_count_once(tmp_path):
    cases = [case(tmp_path, n, drawn(v1=500 + 100 * n)) for n in range(3)]
    assert domain_of([*cases, *cases], TABLE) == domain_of(cases, TABLE)


def test_volumes_of_instances_are_those_of_their_classes(tmp_path):
    table = {"instances": {"1": 0, "2": 0, "3": 1, "4": 1, "5": 0}, "ignore": [5]}
    one = case(tmp_path, 0, drawn(v1=100, v2=200, v3=50, v4=150, v5=400), table)
    assert domain_of([one], TABLE, instances=True)["volume_ml"] == {"one": [0.6, 0.6], "two": [0.4, 0.4]}
    boxed = case(tmp_path, 1, drawn(v1=100, v2=50), {"instances": {"1": 0, "2": 1}, "box_only": [2]})
    assert domain_of([one, boxed], TABLE, instances=True)["volume_ml"] == {"one": [0.2, 0.6]}
    plain = case(tmp_path, 2, drawn(v7=300, v9=100))
    assert domain_of([plain], TABLE, instances=True)["volume_ml"] == {"one": [0.8, 0.8]}


def test_channels_in_files_of_their_own(tmp_path):
    one = case(tmp_path, 0, drawn(v1=10))
    two = case(tmp_path, 1, drawn(v1=10))
    found = domain_of([{**one, "image": [one["image"], two["image"]]}], TABLE)
    assert len(found["intensity"]) == 2
    alone = domain_of([two], TABLE)
    assert found["intensity"][1] == alone["intensity"][0]


def test_of_many_cases_some_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("medseg.training.domain.MOST", 3)
    cases = [case(tmp_path, n, drawn(v1=10)) for n in range(4)]
    assert domain_of(cases, TABLE) == domain_of(cases[::2], TABLE)


@pytest.fixture
def run(toy_bundle, tmp_path):
    """A bundle with a domain of other scans and what was fitted for other weights."""
    import shutil

    root = shutil.copytree(toy_bundle, tmp_path / "run")
    path = root / "configs" / "inference.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["domain"]["extent_mm"] = [[500, 600]] * 3
    config["uncertainty"] = {
        "mirrors": ["LR"],
        "ensemble": {"weights": ["models/member_1.safetensors"]},
        "calibration": {"tta": {"temperature": 2.0}},
    }
    path.write_text(json.dumps(config), encoding="utf-8")
    return root


def told(run) -> dict:
    return json.loads((run / "configs" / "inference.json").read_text(encoding="utf-8"))


def test_a_run_declares_its_own_domain(run, tmp_path):
    before = told(run)
    cases = [case(tmp_path, n, drawn(v1=100, v2=100)) for n in range(3)]
    scan = Volume(image(7), AFFINE, Source(modality="CT"))
    assert check_domain(scan, Domain.from_json(before["domain"]))
    declare(run, cases)
    after = told(run)
    assert check_domain(scan, Domain.from_json(after["domain"])) == []
    assert after["uncertainty"] == {"mirrors": ["LR"]}
    for key in set(before) - {"domain", "uncertainty"}:
        assert after[key] == before[key]
    (run / "models" / "member_1.safetensors").write_bytes(b"")
    (run / "configs" / "inference.json").write_text(json.dumps(before), encoding="utf-8")
    declare(run, cases)
    assert set(told(run)["uncertainty"]) == {"mirrors", "ensemble"}


@pytest.mark.parametrize("cases", [None, [], [{"image": "a.nii"}], {"image": "a.nii", "label": "b.nii"}, "constant"])
def test_what_cannot_be_measured_declares_nothing(run, tmp_path, cases, caplog):
    if cases == "constant":
        cases = [case(tmp_path, 0, drawn(v1=10))]
        write_nifti(tmp_path / "images" / "0.nii.gz", np.ones((16, 20, 18), np.float32), AFFINE)
    declare(run, cases)
    assert "domain" not in told(run)
    assert "no domain is declared" in caplog.text


def test_a_broken_scan_is_named(run, tmp_path):
    one = case(tmp_path, 0, drawn(v1=10))
    (tmp_path / "images" / "0.nii.gz").write_bytes(b"nothing")
    before = told(run)
    with pytest.raises(InputError, match=r"0\.nii\.gz"):
        declare(run, [one])
    assert told(run) == before


def test_a_yaml_config_becomes_json(run, tmp_path):
    yaml = pytest.importorskip("yaml", reason="YAML absent (install pyyaml)")
    path = run / "configs" / "inference.json"
    path.with_suffix(".yaml").write_text(yaml.safe_dump(told(run)), encoding="utf-8")
    path.unlink()
    declare(run, [case(tmp_path, 0, drawn(v1=10))])
    assert told(run)["domain"]["cases"] == 1
    assert not path.with_suffix(".yaml").exists()
