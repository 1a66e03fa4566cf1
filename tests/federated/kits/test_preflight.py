"""Each line of the look before a site starts, made to say fail by the thing that it is about."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from medseg.errors import InputError
from medseg.federated.kits import preflight
from medseg.federated.kits.certificates import own_certificate
from medseg.federated.kits.kit import read_kit
from medseg.federated.privacy.encryption import make_keys
from medseg.federated.privacy.sealing import KEY_FILE, key_id
from medseg.federated.privacy.settings import Privacy, load_privacy, privacy_json


@pytest.fixture
def kit(kits, tmp_path):
    """A site's kit that a test may spoil. Nothing listens at its port."""
    shutil.copytree(kits / "sites" / "site-1", tmp_path / "kit")
    return read_kit(tmp_path / "kit")


def lines(kit) -> dict[str, tuple[str, str]]:
    return {check.name: (check.verdict, check.found) for check in preflight.machine(kit)}


def test_without_a_server_only_the_port_fails_and_tls_is_not_tried(kit):
    found = lines(kit)
    assert [name for name, (verdict, _) in found.items() if verdict == "fail"] == ["port"]
    assert "mutual TLS" not in found
    assert "refused" in found["port"][1]


def test_a_name_that_this_machine_takes_for_its_own_is_a_warning(kit, monkeypatch):
    known = {"fl.example.org": "127.0.1.1", "fl.example.com": "192.0.2.7", "localhost": "127.0.0.1"}
    monkeypatch.setattr(preflight.socket, "getaddrinfo", lambda host, *_, **__: [(0, 0, 0, "", (known[host], 1))])
    found = {host: preflight._name(replace(kit, host=host)).verdict for host in known}
    assert found == {"fl.example.org": "warn", "fl.example.com": "ok", "localhost": "ok"}


def test_every_failure_says_what_to_do(kit):
    spoilt = replace(kit, host="no-such-host.invalid")
    (kit.local / "privacy.json").unlink()
    (kit.startup / "client.key").unlink()
    failed = [check for check in preflight.machine(spoilt) if check.verdict == "fail"]
    assert [check.name for check in failed] == ["what it allows", "certificate", "name"]
    assert all(check.mend for check in failed)


def test_a_loosened_site_fails(kit):
    (kit.local / "custom").mkdir()
    assert lines(kit)["what it allows"] == ("fail", "custom/ holds code that every job could name")


def test_a_kit_in_a_folder_with_a_space_fails(kit, tmp_path):
    shutil.copytree(kit.root, tmp_path / "my kit")
    assert lines(read_kit(tmp_path / "my kit"))["kit"][0] == "fail"


@pytest.mark.skipif(find_spec("tenseal") is None, reason='no tenseal (pip install "medseg[encrypted]")')
def test_where_updates_leave_encrypted_the_key_is_looked_at(kit, monkeypatch):
    keys, kit = make_keys(), replace(kit, encrypted=True)
    (kit.local / "privacy.json").write_text(json.dumps(privacy_json(load_privacy("he"))), encoding="utf-8")
    assert lines(kit)["what it allows"][0] == "ok"
    verdict, found = lines(kit)["encryption"]
    assert (verdict, found) == ("fail", "this site has no key to encrypt with")
    for content, verdict in ((b"no key", "fail"), (keys.server, "fail"), (keys.sites, "ok")):
        (kit.local / KEY_FILE).write_bytes(content)
        assert lines(kit)["encryption"][0] == verdict
    assert key_id(keys.sites) in lines(kit)["encryption"][1]
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    assert lines(kit)["encryption"] == ("fail", "tenseal is not installed")


def test_a_site_whose_filters_do_not_encrypt_does_not_say_that_it_does(kit):
    kit = replace(kit, encrypted=True)
    (kit.local / KEY_FILE).write_bytes(b"key")
    content = privacy_json(load_privacy("he"))
    content["scopes"][0]["task_result_filters"][-1]["args"].pop("encrypted")
    (kit.local / "privacy.json").write_text(json.dumps(content), encoding="utf-8")
    found = lines(kit)
    assert found["what it allows"][0] == "fail"
    assert found["encryption"] == ("fail", "the filters of local/privacy.json do not encrypt")


@pytest.mark.parametrize(
    "said",
    [
        {"privacy": "clip_noise", "setting": None},  # a kit of an older medseg
        {"privacy": "ours.yaml", "setting": Privacy("ours", clip_norm=1.0)},
        {"encrypted": True, "setting": None},
    ],
)
def test_filters_that_do_less_than_the_kit_says_fail(kit, said):
    assert lines(kit)["what it allows"][0] == "ok"
    assert lines(replace(kit, **said))["what it allows"][0] == "fail"


def test_a_certificate_is_told_before_it_ends_and_after(kit, monkeypatch):
    certificate = own_certificate(kit)
    for days, verdict in ((40, "ok"), (10, "warn"), (-1, "fail")):
        now = certificate.ends - timedelta(days=days)
        monkeypatch.setattr(preflight, "days_left", lambda one, now=now: (one.ends - now).total_seconds() / 86400)
        assert lines(kit)["certificate"][0] == verdict


def test_a_key_that_others_can_read_is_a_warning(kit):
    (kit.startup / "client.key").chmod(0o644)
    verdict, found = lines(kit)["certificate"]
    assert (verdict, found) == ("warn", "others on this machine can read client.key")


@pytest.mark.parametrize(("state", "verdict"), [(0, "ok"), (5, "warn"), (-1, "ok")])
def test_a_clock_that_nothing_keeps_right_is_a_warning(kit, monkeypatch, state, verdict):
    monkeypatch.setattr(preflight, "_adjtimex", lambda: state)
    monkeypatch.setattr(preflight.sys, "platform", "linux")
    assert lines(kit)["clock"][0] == verdict


@pytest.mark.parametrize(("free", "verdict"), [(0.5, "fail"), (5.0, "warn"), (50.0, "ok")])
def test_disk_and_memory_by_amount(kit, monkeypatch, free, verdict):
    monkeypatch.setattr(preflight, "_memory_free_gb", lambda: free)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=free * 1e9))
    found = lines(kit)
    assert (found["disk"][0], found["memory"][0]) == (verdict, verdict)


def test_another_version_of_medseg_is_a_warning(kit):
    assert lines(replace(kit, medseg="0.0.1"))["versions"][0] == "warn"


def test_the_agreed_bundle_passes_and_an_edited_one_fails(kit, small_recipe, tmp_path):
    assert preflight.bundle(kit, small_recipe).verdict == "ok"
    edited = tmp_path / small_recipe.name
    shutil.copytree(small_recipe, edited)
    with (edited / "configs" / "train.json").open("a", encoding="utf-8") as file:
        file.write(" ")
    check = preflight.bundle(kit, edited)
    assert check.verdict == "fail"
    assert kit.bundle_sha256[:12] in check.found


def test_a_kit_without_an_agreed_bundle_leaves_that_to_the_jobs(kit, small_recipe):
    assert preflight.bundle(replace(kit, bundle="", bundle_sha256=""), small_recipe).verdict == "ok"


def test_the_line_about_data_carries_the_errors_words():
    def refused():
        raise InputError("MS-T101", "no images in imagesTr", file="/scans", mend="put images there")

    check = preflight.data_check(refused)
    assert (check.verdict, check.found, check.mend) == (
        "fail",
        "MS-T101 /scans: no images in imagesTr",
        "put images there",
    )
    assert preflight.data_check(lambda: "3 cases").verdict == "ok"


@pytest.mark.parametrize(("most", "used", "free"), [("3000000000", "1000000000", 2.0), ("max", "5", None)])
def test_a_containers_limit_counts(tmp_path, monkeypatch, most, used, free):
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64e9))
    monkeypatch.setattr(preflight, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(most, encoding="ascii")
    (tmp_path / "memory.current").write_text(used, encoding="ascii")
    assert preflight._memory_free_gb() == (free or 64.0)
