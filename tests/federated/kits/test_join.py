"""The look before a site starts and the site's own file; that a site takes part is shown in test_loopback.py."""

from __future__ import annotations

import shutil
import stat
import sys

import pytest
import yaml
from typer.testing import CliRunner

from medseg.cli.federate import app
from medseg.errors import BundleError, InputError
from medseg.federated.kits.join import PICTURE, ready, require_ready, site_bundle, write_site_file
from medseg.federated.kits.kit import read_kit
from medseg.federated.site_file import FILE, read_site_file
from medseg.workflows.doctor import Check


@pytest.fixture
def kit(kits, tmp_path):
    shutil.copytree(kits / "sites" / "site-1", tmp_path / "kit")
    return read_kit(tmp_path / "kit")


def line(kit, data, bundle, name="data"):
    return next(check for check in ready(kit, data, bundle) if check.name == name)


def test_cases_are_counted_as_training_takes_them(kit, cubes, small_recipe, tmp_path):
    check = line(kit, cubes(tmp_path / "scans", range(5)), small_recipe)
    assert (check.verdict, check.found) == ("ok", "4 cases to train, 1 to validate")


def test_data_that_cannot_be_trained_on_fails_with_its_code(kit, cubes, small_recipe, tmp_path):
    scans = cubes(tmp_path / "scans", range(3))
    (scans / "labelsTr" / "cube_01.nii.gz").unlink()
    check = line(kit, scans, small_recipe)
    assert check.verdict == "fail"
    assert check.found.startswith("MS-T102")
    assert line(kit, tmp_path / "nowhere", small_recipe).verdict == "fail"


def test_the_sites_file_says_where_things_lie_and_is_for_one_reader(kit, small_recipe, tmp_path):
    path = write_site_file(kit, tmp_path, small_recipe)
    assert path == kit.local / FILE
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert (said["data"], said["bundle"]) == (str(tmp_path.resolve()), str(small_recipe.resolve()))
    assert read_site_file(kit.local).data == str(tmp_path.resolve())
    assert sys.platform == "win32" or stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_the_owner_wrote_into_the_sites_file_stays(kit, small_recipe, tmp_path):
    (kit.local / FILE).write_text("work: /big/disk\nvalidation: [cube_01]\n", encoding="utf-8")
    write_site_file(kit, tmp_path, small_recipe, held_out=True)
    said = read_site_file(kit.local)
    assert (said.work, said.validation, said.held_out) == ("/big/disk", ("cube_01",), True)


def test_a_held_out_site_tests_with_all_its_cases(kit, cubes, small_recipe, tmp_path):
    found = {
        check.name: check.found for check in ready(kit, cubes(tmp_path / "s", range(5)), small_recipe, held_out=True)
    }
    assert found["data"] == "5 cases to test with"


def test_the_site_sees_its_data_beside_the_bundle_in_a_picture(kit, cubes, small_recipe, tmp_path):
    checks = ready(kit, cubes(tmp_path / "scans", range(6)), small_recipe)
    assert (kit.root / PICTURE).read_bytes().startswith(b"\x89PNG")
    assert [check.verdict for check in checks if check.name == "data beside others"] == ["ok"]


def test_labels_that_stand_elsewhere_than_the_consortiums_are_told_before_anything_starts(
    kit, cubes, small_recipe, tmp_path
):
    import json

    import nibabel as nib
    import numpy as np

    from medseg.bundle.config import read_config
    from medseg.bundle.described import read_labels
    from medseg.federated.stats.agreement import agree
    from medseg.federated.stats.fingerprint import fingerprint_of
    from medseg.federated.stats.regard import CONSORTIUM
    from medseg.federated.stats.survey import survey

    scans = cubes(tmp_path / "scans", range(8))
    table = read_labels(read_config(small_recipe, "inference"), read_config(small_recipe, "metadata"), small_recipe)
    others = agree({"a": fingerprint_of(survey(scans, labels=table))})
    (kit.local / CONSORTIUM).write_text(json.dumps(others.to_json(single_sites=False)), encoding="utf-8")
    for path in (scans / "labelsTr").iterdir():
        image = nib.load(path)
        values = np.asarray(image.dataobj)
        nib.save(nib.Nifti1Image(np.where(values > 0, 3 - values, 0).astype(np.uint8), image.affine), path)
    checks = ready(kit, scans, small_recipe)
    assert [check.name for check in checks if check.verdict == "fail" and check.name.startswith("MS-J15")] != []


def test_the_bundle_is_the_named_one_else_the_agreed_one(kit, small_recipe):
    from dataclasses import replace

    from medseg.bundle.shipped import find_bundle

    assert site_bundle(kit, small_recipe) == small_recipe
    agreed = replace(kit, bundle="hippocampus_mri_segmentation")
    assert site_bundle(agreed, None) == find_bundle("hippocampus_mri_segmentation")
    with pytest.raises(BundleError) as caught:
        site_bundle(replace(kit, bundle=""), None)
    assert caught.value.code == "MS-J058"


def test_one_line_that_fails_keeps_the_site_from_starting(kit):
    require_ready([Check("port", "ok", ""), Check("clock", "warn", "", "set it")], kit)
    with pytest.raises(InputError, match="port, data") as caught:
        require_ready([Check("port", "fail", "", "open it"), Check("data", "fail", "", "")], kit)
    assert (caught.value.code, caught.value.exit_code, caught.value.mend) == ("MS-J059", 3, "open it")
    with pytest.raises(BundleError) as refused:
        require_ready([Check("bundle", "fail", "", "x")], kit)
    assert refused.value.exit_code == 4


def test_the_command_starts_nothing_where_a_line_fails(kit, cubes, small_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("medseg.federated.kits.join.be_site", lambda *_: pytest.fail("it started"))
    scans = cubes(tmp_path / "scans", range(5))
    words = ["join", str(kit.root), "--data", str(scans), "-b", str(small_recipe)]
    done = CliRunner().invoke(app, words)  # nothing listens: the port fails
    assert isinstance(done.exception, InputError)
    assert done.exception.code == "MS-J059"
    assert not (kit.local / FILE).exists()


def test_the_server_does_not_take_a_sites_kit(kit):
    done = CliRunner().invoke(app, ["serve", str(kit.root)])
    assert isinstance(done.exception, InputError)
    assert done.exception.code == "MS-J054"


def test_each_round_is_told_once_while_the_site_runs(kit, small_recipe, tmp_path, monkeypatch):
    import json

    from medseg.federated.kits import join

    write_site_file(kit, tmp_path, small_recipe)
    told, shown = [], []

    def run(command, own, tell, watch):
        assert command[2:5] == ["-m", "medseg.federated.kits.site_process", str(own.root)]
        assert command[5:] == ["--name", "site-1", "--organisation", "hospital_1"]
        path = own.root / "medseg_work" / "liver" / "progress.json"
        path.parent.mkdir(parents=True)
        for number, step in ((0, 1), (0, 2), (1, 1)):
            path.write_text(json.dumps({"round": number, "step": step, "of": 2, "loss": 1.0}), encoding="utf-8")
            watch()
            watch()

    monkeypatch.setattr(join, "supervise", run)
    join.be_site(kit, told.append, shown.append)
    assert told == ["liver: round 1", "liver: round 2"]
    assert len(shown) == 3
