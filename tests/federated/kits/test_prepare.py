"""Kits as they are made: mutual TLS over gRPC, certificates of one root, what a site allows, keys for one reader each."""

from __future__ import annotations

import json
import shutil
import ssl
import stat
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest

from medseg.errors import BundleError, MissingExtraError, OutputError, UsageError
from medseg.federated.bundle_hash import bundle_hash
from medseg.federated.kits import policy
from medseg.federated.kits.certificates import own_certificate
from medseg.federated.kits.kit import read_kit, write_kit
from medseg.federated.kits.prepare import AUTHORITY, prepare, write_server_resources
from medseg.federated.privacy.encryption import require_key
from medseg.federated.privacy.sealing import KEY_FILE
from medseg.federated.privacy.settings import load_privacy, privacy_json

ALL = ("server", "sites/site-1", "sites/site-2", "sites/site-3", "admins/lead@example.org", "admins/member@example.org")


def content(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def project(kits, tmp_path):
    """The project's file, where a test may change it."""
    path = tmp_path / "project.yaml"
    path.write_bytes((kits.parent / "project.yaml").read_bytes())
    return path


@pytest.mark.parametrize("name", ALL)
def test_every_participant_has_a_kit_that_knows_whose_it_is(kits, name, small_recipe):
    kit = read_kit(kits / name)
    assert kit.name == ("localhost" if name == "server" else name.split("/")[1])
    assert kit.sites == ("site-1", "site-2", "site-3")
    assert (kit.bundle, kit.bundle_sha256) == (small_recipe.name, bundle_hash(small_recipe))
    assert own_certificate(kit).name == kit.name


def test_sites_speak_grpc_by_mutual_tls_and_take_signed_jobs_alone(kits):
    for name in ALL[1:4]:
        said = content(kits / name / "startup" / "fed_client.json")
        assert said["client"]["connection_security"] == "mtls"
        assert said["servers"][0]["service"]["scheme"] == "grpc"
        assert said["require_signed_jobs"] is True
    said = content(kits / "server" / "startup" / "fed_server.json")
    assert said["servers"][0]["connection_security"] == "mtls"
    assert said["servers"][0]["service"]["scheme"] == "grpc"
    assert content(kits / ALL[4] / "startup" / "fed_admin.json")["admin"]["connection_security"] == "mtls"


@pytest.mark.parametrize("name", ALL[1:4])
def test_a_site_allows_what_the_policy_says_and_nothing_of_its_defaults_is_left(kits, name):
    local = kits / name / "local"
    assert policy.loosened(local) == []
    assert sorted(path.name for path in local.iterdir()) == [
        "authorization.json", "log_config.json.default", "privacy.json", "resources.json",
    ]  # fmt: skip
    assert not list((kits / name / "startup").glob("*.sh"))


@pytest.mark.skipif(find_spec("tenseal") is None, reason='no tenseal (pip install "medseg[encrypted]")')
def test_the_key_of_the_sites_is_in_their_kits_alone(project, tmp_path):
    out = tmp_path / "made"
    project.write_text(project.read_text(encoding="utf-8") + "privacy: he\n", encoding="utf-8")
    made = prepare(project, out)
    assert any("updates leave encrypted" in line for line in made.promises)
    key = (out / AUTHORITY / KEY_FILE).read_bytes()
    require_key(key)
    for kit in made.kits:
        held = {
            path.relative_to(kit.root).as_posix()
            for path in kit.root.rglob("*")
            if path.is_file() and key in path.read_bytes()
        }
        assert held == ({f"local/{KEY_FILE}"} if kit.kind == "site" else set())
        assert read_kit(kit.root).encrypted
        assert policy.loosened(kit.local) == [] or kit.kind != "site"
        if held and sys.platform != "win32":
            assert stat.S_IMODE((kit.local / KEY_FILE).stat().st_mode) == 0o600
    project.write_text(
        project.read_text(encoding="utf-8").replace("admins:", "  - {name: site-4, organisation: hospital_4}\nadmins:"),
        encoding="utf-8",
    )
    (new,) = [kit for kit in prepare(project, out).kits if kit.kind == "site"]
    assert (new.local / KEY_FILE).read_bytes() == key


def test_the_server_keeps_its_jobs_in_its_kit_and_lets_the_quorum_decide(kits):
    kit = read_kit(kits / "server")
    write_server_resources(kit)
    said = content(kit.local / policy.RESOURCES)
    parts = {one["id"]: one for one in said["components"]}
    assert parts["job_manager"]["args"]["uri_root"] == str(kit.root / "store" / "jobs")
    assert said["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"].startswith(str(kit.root))
    assert parts["quorum_decides"]["path"] == "medseg.federated.kits.outcomes.QuorumDecides"
    assert "log_receiver" not in parts
    assert said["servers"][0]["heart_beat_timeout"] == 60


@pytest.mark.skipif(sys.platform == "win32", reason="file modes of POSIX")
def test_nobody_else_reads_keys(kits):
    for path in (*kits.rglob("*.key"), *(p for p in (kits / AUTHORITY).rglob("*") if p.is_file())):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for name in (*ALL, AUTHORITY):
        assert stat.S_IMODE((kits / name).stat().st_mode) == 0o700, name


def test_no_kit_holds_another_ones_key_or_a_path_of_this_machine(kits):
    keys = {path.read_bytes(): path for path in kits.rglob("*.key")}
    assert len(keys) == len(ALL)
    for name in ALL[1:]:
        for path in (kits / name).rglob("*"):
            if path.is_file():
                assert str(kits.parent).encode() not in path.read_bytes(), path


def test_a_second_run_makes_kits_of_what_is_new_by_the_same_root(project, tmp_path):
    out = tmp_path / "out"
    first = prepare(project, out)
    assert len(first.kits) == len(ALL)
    assert first.kept == ()
    before = {path: path.read_bytes() for path in (out / "sites").rglob("*") if path.is_file()}
    more = project.read_text(encoding="utf-8").replace("sites:\n", "sites:\n  - {name: late, organisation: new}\n")
    project.write_text(more, encoding="utf-8")
    second = prepare(project, out)
    assert [kit.name for kit in second.kits] == ["late"]
    assert len(second.kept) == len(ALL)
    assert {path: path.read_bytes() for path in before} == before  # a hospital's kit is the hospital's
    for name in ("server", "admins/lead@example.org"):
        assert read_kit(out / name).sites == ("late", "site-1", "site-2", "site-3")
    roots = {path.read_bytes() for path in out.rglob("rootCA.pem")}
    assert len(roots) == 1
    assert own_certificate(read_kit(out / "sites" / "late")).name == "late"
    assert not list((out / AUTHORITY).rglob("prod_*"))  # no second copy of the keys


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(project, out):
    """That a second run is refused, and nothing was written before."""
    before = files(out)
    with pytest.raises(UsageError, match="another privacy setting") as caught:
        prepare(project, out)
    assert caught.value.code == "MS-J073"
    assert "new folder" in caught.value.mend
    assert files(out) == before


@pytest.fixture
def older(kits, tmp_path):
    """Kits as an older medseg made them: they say the setting's name alone."""
    out = shutil.copytree(kits, tmp_path / "older")
    for name in ALL:
        write_kit(replace(read_kit(out / name), setting=None))
    return out


@pytest.mark.parametrize("setting", ["he", "clip_noise"])
def test_a_second_run_under_another_privacy_setting_is_refused(project, kits, older, tmp_path, setting):
    made = shutil.copytree(kits, tmp_path / "made")
    project.write_text(project.read_text(encoding="utf-8") + f"privacy: {setting}\n", encoding="utf-8")
    for out in (made, older):
        refused(project, out)
        shutil.rmtree(out / "sites")  # as where they were handed out and removed
        refused(project, out)


def test_a_setting_whose_file_was_changed_is_another_one(project, tmp_path):
    out, setting = tmp_path / "out", tmp_path / "ours.yaml"
    setting.write_text("clip_norm: 1.0\n", encoding="utf-8")
    project.write_text(project.read_text(encoding="utf-8") + f"privacy: {setting}\n", encoding="utf-8")
    prepare(project, out)
    setting.write_text("clip_norm: 1\nnoise_multiplier: 0\n", encoding="utf-8")
    assert prepare(project, out).kits == ()  # the same in other words
    setting.write_text("clip_norm: 2.0\n", encoding="utf-8")
    refused(project, out)
    for name in ALL:
        write_kit(replace(read_kit(out / name), setting=None))
    refused(project, out)


def test_a_site_that_made_its_filters_stricter_does_not_keep_the_project_from_growing(project, kits, older, tmp_path):
    made = shutil.copytree(kits, tmp_path / "made")
    path = made / "sites" / "site-2" / "local" / policy.PRIVACY
    path.write_text(json.dumps(privacy_json(load_privacy("clip_noise"))), encoding="utf-8")
    assert len(prepare(project, made).kept) == len(prepare(project, older).kept) == len(ALL)
    path.unlink()
    refused(project, made)


def test_certificates_hold_as_long_as_the_project_says(project, tmp_path):
    project.write_text(project.read_text(encoding="utf-8") + "valid_days: 10\n", encoding="utf-8")
    prepare(project, tmp_path / "out")
    certificate = own_certificate(read_kit(tmp_path / "out" / "sites" / "site-1"))
    assert 9 < (certificate.ends - certificate.begins).total_seconds() / 86400 <= 10
    project.write_text(
        project.read_text(encoding="utf-8").replace("valid_days: 10", "valid_days: 20"), encoding="utf-8"
    )
    with pytest.raises(OutputError, match="valid_days") as caught:
        prepare(project, tmp_path / "out")
    assert caught.value.code == "MS-J055"


def test_key_and_certificate_belong_together(kits):
    context = ssl.create_default_context(cafile=str(kits / "sites/site-1/startup/rootCA.pem"))
    context.load_cert_chain(kits / "sites/site-1/startup/client.crt", kits / "sites/site-1/startup/client.key")
    with pytest.raises(ssl.SSLError):
        context.load_cert_chain(kits / "sites/site-1/startup/client.crt", kits / "sites/site-2/startup/client.key")


def test_two_sites_are_told_that_a_sum_hides_nothing(project, tmp_path):
    lines = project.read_text(encoding="utf-8").replace("  - {name: site-3, organisation: hospital_3}\n", "")
    project.write_text(lines, encoding="utf-8")
    made = prepare(project, tmp_path / "out")
    assert any("hides nothing" in line for line in made.promises)
    assert read_kit(made.kits[0].root).promises == made.promises


def test_the_privacy_of_the_project_stands_in_every_site(project, tmp_path):
    project.write_text(project.read_text(encoding="utf-8") + "privacy: clip_noise\n", encoding="utf-8")
    prepare(project, tmp_path / "out")
    for n in (1, 2, 3):
        scope = content(tmp_path / "out" / "sites" / f"site-{n}" / "local" / "privacy.json")["scopes"][0]
        paths = [one["path"] for one in scope["task_result_filters"]]
        assert paths[0].endswith("ClipNoiseFilter")
        assert paths[-1] == policy.AUDIT


def test_a_folder_of_something_else_is_left_alone(project, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x", encoding="utf-8")
    with pytest.raises(OutputError) as caught:
        prepare(project, tmp_path / "mine")
    assert caught.value.code == "MS-J056"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_another_project_in_the_same_folder_is_refused(project, kits):
    project.write_text(project.read_text(encoding="utf-8").replace("name: cubes", "name: spheres"), encoding="utf-8")
    with pytest.raises(OutputError, match="cubes") as caught:
        prepare(project, kits)
    assert caught.value.code == "MS-J056"


def test_a_folder_with_a_space_is_refused(project, tmp_path):
    with pytest.raises(UsageError, match="space") as caught:
        prepare(project, tmp_path / "my kits")
    assert caught.value.code == "MS-J057"
    assert not (tmp_path / "my kits").exists()


def test_an_unknown_bundle_is_refused_before_anything_is_made(project, tmp_path):
    with pytest.raises(BundleError) as caught:
        prepare(project, tmp_path / "out", bundle="no_such_bundle")
    assert caught.value.code == "MS-B101"
    assert not (tmp_path / "out").exists()


def test_without_nvflare_it_says_what_to_install(project, tmp_path, monkeypatch):
    monkeypatch.setattr("medseg.federated.installed.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError) as caught:
        prepare(project, tmp_path / "out")
    assert (caught.value.code, caught.value.mend) == ("MS-J053", "pip install 'medseg[federated]'")
