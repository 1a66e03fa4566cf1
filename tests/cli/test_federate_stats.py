"""`medseg federate stats`: one site alone, options that are refused; the table to stderr, JSON to stdout."""

from __future__ import annotations

import json

import pytest

from medseg.cli import federate_stats
from medseg.cli.app import run
from medseg.federated.stats.exchange import statistics_of
from medseg.federated.stats.fingerprint_json import from_json
from medseg.federated.stats.report import write_report


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    import nibabel as nib
    import numpy as np

    root = tmp_path_factory.mktemp("sites")
    for site, swapped in (("north", False), ("south", True)):
        for n in range(6):
            rng = np.random.default_rng(n + 100 * swapped)
            label = np.zeros((16, 16, 16), np.uint8)
            label[3:7, 4:12, 4:12], label[9:13, 4:12, 4:12] = (2, 1) if swapped else (1, 2)
            image = 100.0 + 40.0 * (label > 0) + rng.normal(0, 5, label.shape)
            for part, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label)):
                (root / site / part).mkdir(parents=True, exist_ok=True)
                nib.save(nib.Nifti1Image(array, np.eye(4)), root / site / part / f"case_{n}.nii.gz")
        said = {"channel_names": {"0": "T1w"}, "labels": {"background": 0, "kidney left": 1, "kidney right": 2}}
        (root / site / "dataset.json").write_text(json.dumps(said), encoding="utf-8")
    return root


def test_one_site_sees_what_it_would_tell(folders, capsys):
    assert run(["federate", "stats", str(folders / "north"), "--json"]) == 0
    said = capsys.readouterr()
    own = from_json(json.loads(said.out))
    assert (own.cases, [one.name for one in own.structures]) == (6, ["kidney left", "kidney right"])
    assert own.channels[0].grey
    assert "6 cases" in said.err


def test_one_site_with_exchanged_sides_is_told_so_and_exits_3(folders, capsys):
    assert run(["federate", "stats", str(folders / "south")]) == 3
    said = capsys.readouterr().err
    assert "MS-J155" in said
    assert "'kidney left' lies to the patient's right of 'kidney right' in 100 % of 6 cases" in said


def test_simulated_sites_are_told_of_and_their_agreement_is_written_into_a_bundle(
    folders, tmp_path, capsys, monkeypatch
):
    """NVFLARE's part is tested in tests/federated/simulation/test_stats.py; here is what comes before and after it."""
    asked = {}

    def simulated(where, out, **said):
        asked.update(said, where=where)
        write_report(out, statistics_of({name: folders / name for name in ("north", "south")}))
        return out

    monkeypatch.setattr("medseg.federated.simulation.stats.simulate_stats", simulated)
    sites = tmp_path / "sites.yaml"
    sites.write_text("sites: []\n", encoding="utf-8")
    options = ["-o", str(tmp_path / "out"), "-b", "hippocampus_mri_segmentation", "--write", str(tmp_path / "new")]
    assert run(["federate", "stats", str(sites), *options, "--at-least", "6", "--json"]) == 3
    assert asked == {
        "where": sites, "bundle": "hippocampus_mri_segmentation", "at_least": 6, "quorum": 2, "deadline_s": 3600.0,
    }  # fmt: skip
    said = capsys.readouterr()
    assert {one["site"] for one in json.loads(said.out)["findings"]} >= {"south"}
    assert "not fit to train as they are: " in said.err
    train = json.loads((tmp_path / "new" / "configs" / "train.json").read_text("utf-8"))
    names = [row["name"] for row in train["labels"]]
    assert names == ["Anterior hippocampus", "Posterior hippocampus", "kidney left", "kidney right"]


@pytest.mark.parametrize(
    ("options", "what"), [(["--write", "new"], "--write without --bundle"), ([], "no folder for the report")]
)
def test_options_that_do_not_go_together(tmp_path, capsys, options, what):
    sites = tmp_path / "sites.yaml"
    sites.write_text("sites: []\n", encoding="utf-8")
    assert run(["federate", "stats", str(sites), *options]) == 2
    said = capsys.readouterr().err
    assert "MS-J175" in said
    assert what in said


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert run(["federate", "stats", str(tmp_path / "nowhere"), "-o", str(tmp_path / "out")]) == 2
    assert "MS-J020" in capsys.readouterr().err


def test_the_command_says_what_leaves_a_site():
    assert "at least 5 cases" in federate_stats.stats.__doc__
