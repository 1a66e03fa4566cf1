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
from medseg.federated.join import FILE, ready, require_ready, site_bundle, write_site_file
from medseg.federated.kit import read_kit
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
    assert sys.platform == "win32" or stat.S_IMODE(path.stat().st_mode) == 0o600


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
    monkeypatch.setattr("medseg.federated.join.be_site", lambda *_: pytest.fail("it started"))
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
