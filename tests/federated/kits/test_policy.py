"""What kits allow, judged by NVFLARE's own authoriser and class check; and every loosening that `join` must see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg.federated.kits import policy
from medseg.federated.privacy.settings import Privacy, load_privacy, privacy_json

LEAD, MEMBER = ("lead@uni.org", "uni", "lead"), ("member@uni.org", "uni", "member")


def may(content: dict, site: str, person: tuple[str, str, str], right: str, submitter=("", "", "")) -> bool:
    from nvflare.fuel.sec.authz import AuthzContext, Person
    from nvflare.security.security import FLAuthorizer

    context = AuthzContext(right, Person(*person), Person(*submitter))
    return FLAuthorizer(site, content).authorize(context)[0]


@pytest.fixture
def local(tmp_path):
    """A site's `local/` as a kit has it."""
    contents = {
        policy.RESOURCES: policy.site_resources(),
        policy.AUTHORIZATION: policy.site_authorization(),
        policy.PRIVACY: privacy_json(load_privacy("none")),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def edit(local, name, change):
    path = local / name
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("person", [LEAD, MEMBER, ("boss@uni.org", "hospital_a", "project_admin")])
@pytest.mark.parametrize(
    "right", ["byoc", "cat", "grep", "ls", "pwd", "head", "tail", "restart", "shutdown", "sys_info"]
)
def test_nobody_brings_code_looks_at_files_or_works_a_site(person, right):
    assert not may(policy.site_authorization(), "hospital_a", person, right)


def test_leads_submit_and_stop_their_own_jobs_and_members_do_not():
    content = policy.site_authorization()
    assert may(content, "hospital_a", LEAD, "submit_job")
    assert not may(content, "hospital_a", MEMBER, "submit_job")
    assert may(content, "hospital_a", LEAD, "abort_job", submitter=LEAD)
    assert not may(content, "hospital_a", LEAD, "abort_job", submitter=("x@other.org", "other", "lead"))


def test_at_the_server_leads_fetch_their_own_jobs_and_members_look_on():
    content = policy.server_authorization()
    assert may(content, "uni", LEAD, "download_job", submitter=LEAD)
    assert not may(content, "uni", LEAD, "download_job", submitter=("x@other.org", "other", "lead"))
    assert may(content, "uni", MEMBER, "list_jobs")
    for right in ("submit_job", "abort_job", "download_job", "shutdown", "cat", "byoc"):
        assert not may(content, "uni", MEMBER, right, submitter=LEAD)
    for right in ("cat", "byoc"):
        assert not may(content, "uni", LEAD, right, submitter=LEAD)


@pytest.mark.parametrize("resources", [policy.site_resources(), policy.server_resources(Path("/s"), 60)])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        *((one, True) for one in policy.JOB_CLASSES),
        ("medseg.federated.executor.MedsegExecutorX", False),
        ("medseg.federated.bundle_hash.bundle_hash", False),
        ("medseg.federated.privacy.audit_filter.AuditFilter", False),
        ("nvflare.app_common.psi.file_psi_writer.FilePSIWriter", False),
        ("subprocess.Popen", False),
        ("os.system", False),
    ],
)
def test_a_job_may_name_our_classes_alone(tmp_path, resources, path, allowed):
    from nvflare.apis.fl_exception import UnsafeComponentError
    from nvflare.apis.workspace import Workspace
    from nvflare.app_common.widgets.component_path_authorizer import ComponentPathAuthorizer

    for name in ("startup", "local"):
        (tmp_path / name).mkdir()
    (tmp_path / "local" / policy.RESOURCES).write_text(json.dumps(resources), encoding="utf-8")
    authoriser, workspace = ComponentPathAuthorizer(), Workspace(str(tmp_path), "site-1")
    if allowed:
        authoriser.authorize_component_config({"path": path}, workspace=workspace)
    else:
        with pytest.raises(UnsafeComponentError):
            authoriser.authorize_component_config({"path": path}, workspace=workspace)


def test_a_kit_is_not_loosened(local):
    assert policy.loosened(local) == []


@pytest.mark.parametrize("setting", ["none", "clip_noise", "fp16", "top_k"])
def test_no_shipped_privacy_setting_is_taken_for_a_loosening(local, setting):
    (local / policy.PRIVACY).write_text(json.dumps(privacy_json(load_privacy(setting))), encoding="utf-8")
    assert policy.loosened(local) == []


@pytest.mark.parametrize("name", [policy.RESOURCES, policy.AUTHORIZATION, policy.PRIVACY])
@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_a_file_that_is_missing_broken_or_empty_is_told(local, name, content):
    if content is None:
        (local / name).unlink()
    else:
        (local / name).write_text(content, encoding="utf-8")
    assert [what for what in policy.loosened(local) if name in what]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda c: c.update(class_list_enforcement_mode="warn"), "enforce"),
        (lambda c: c["class_allow_list"].append("*"), r"name \*"),
        (lambda c: c["class_allow_list"].append("nvflare."), "nvflare"),
        (lambda c: c.pop("class_allow_list"), r"name \*"),
        (lambda c: c.update(allow_log_streaming=True), "logs"),
        (lambda c: c.pop("allow_log_streaming"), "logs"),
        (lambda c: c["client"].pop("site_config"), "told to the server"),
        (lambda c: c["components"].append({"id": "x", "path": "nvflare.app_common.logging.site_log_streamer.SiteLogStreamer"}), "SiteLogStreamer"),
    ],
)  # fmt: skip
def test_loosened_resources_are_told(local, change, word):
    import re

    edit(local, policy.RESOURCES, change)
    found = policy.loosened(local)
    assert len(found) == 1
    assert re.search(word, found[0])


@pytest.mark.parametrize(
    ("role", "rights"),
    [
        ("lead", {"byoc": "any"}),
        ("lead", {"shell_commands": "o:site"}),
        ("member", {"submit_job": "any"}),
        ("lead", {"cat": "any"}),
        ("project_admin", "any"),
        ("lead", "any"),
    ],
)
def test_loosened_rights_are_told(local, role, rights):
    def change(content):
        known = content["permissions"].get(role)
        content["permissions"][role] = {**known, **rights} if isinstance(rights, dict) and known else rights

    edit(local, policy.AUTHORIZATION, change)
    assert len(policy.loosened(local)) == 1


def test_fewer_rights_are_no_loosening(local):
    edit(local, policy.AUTHORIZATION, lambda c: c["permissions"].pop("member"))
    edit(local, policy.AUTHORIZATION, lambda c: c["permissions"]["lead"].update(manage_job="none"))
    assert policy.loosened(local) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["scopes"][0]["task_result_filters"].pop(),
        lambda c: c["scopes"][0].update(task_result_filters=[]),
        lambda c: c["scopes"][0]["task_result_filters"].append({"path": "nvflare.app_common.filters.exclude_vars.ExcludeVars"}),
        lambda c: c["scopes"][0]["task_result_filters"][-1].update(direction="in"),
        lambda c: c["scopes"][0]["task_result_filters"][-1].update(disabled=True),
        lambda c: c["scopes"].append(c["scopes"][0]),
        lambda c: c["scopes"].append({"name": "open", "task_result_filters": []}),
        lambda c: c.pop("default_scope"),
        lambda c: c["scopes"].clear(),
    ],
)  # fmt: skip
def test_an_audit_that_is_not_last_is_told(local, change):
    edit(local, policy.PRIVACY, change)
    assert [what for what in policy.loosened(local) if what.startswith(policy.PRIVACY)]


CLIPPED = Privacy("clipped", clip_norm=1.0, noise_multiplier=0.5, max_epsilon=8.0, packing="top_k", keep=0.1)


def write(local, setting, change=None):
    content = privacy_json(setting)
    if change is not None:
        change(content["scopes"][0])
    (local / policy.PRIVACY).write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("setting", ["none", "clip_noise", "fp16", "top_k", "he"])
def test_a_kit_does_what_its_setting_says(local, setting):
    needed = load_privacy(setting)
    write(local, needed)
    assert policy.loosened(local, needed) == []
    assert policy.encrypts(local) == (setting == "he")
    if setting != "none":
        write(local, load_privacy("none"))
        assert len(policy.loosened(local, needed)) >= 1


@pytest.mark.parametrize(
    ("setting", "change"),
    [
        ("he", lambda s: s["task_result_filters"][-1]["args"].pop("encrypted")),
        ("he", lambda s: s["task_result_filters"][-1]["args"].update(encrypted=False)),
        ("he", lambda s: s["task_result_filters"][-1]["args"].update(encrypted="false")),
        ("he", lambda s: s["task_result_filters"][-1].pop("args")),
        ("he", lambda s: s["task_data_filters"].clear()),
        ("he", lambda s: s.pop("task_data_filters")),
        ("he", lambda s: s["task_data_filters"][0].update(disabled=True)),
        ("he", lambda s: s["task_data_filters"][0].update(direction="out")),
        (CLIPPED, lambda s: s["task_result_filters"].pop(0)),
        (CLIPPED, lambda s: s["task_result_filters"].pop(1)),
        (CLIPPED, lambda s: s["task_result_filters"][0].update(disabled=True)),
        (CLIPPED, lambda s: s["task_result_filters"][0].update(direction="in")),
        (CLIPPED, lambda s: s["task_result_filters"][0]["args"].update(clip_norm=2.0)),
        (CLIPPED, lambda s: s["task_result_filters"][0]["args"].update(noise_multiplier=0.1)),
        (CLIPPED, lambda s: s["task_result_filters"][0]["args"].update(ledger="other.jsonl")),
        (CLIPPED, lambda s: s["task_result_filters"][0]["args"].pop("clip_norm")),
        (CLIPPED, lambda s: s["task_result_filters"][1]["args"].update(keep=0.5)),
        (CLIPPED, lambda s: s["task_result_filters"][1]["args"].update(packing="fp16")),
        (CLIPPED, lambda s: s["task_result_filters"][2]["args"].update(packing="none")),
        (CLIPPED, lambda s: s["task_result_filters"][2]["args"].update(record="elsewhere.jsonl")),
        (CLIPPED, lambda s: s["task_result_filters"].insert(0, s["task_result_filters"].pop(1))),
        (CLIPPED, lambda s: s["task_result_filters"].insert(1, {"path": "hospital.Own"})),
        ("none", lambda s: s["task_result_filters"].insert(0, "AuditFilter") or s["task_result_filters"].reverse()),
    ],
)  # fmt: skip
def test_filters_that_do_less_than_the_kit_says_are_told(local, setting, change):
    needed = load_privacy(setting) if isinstance(setting, str) else setting
    write(local, needed, change)
    found = policy.loosened(local, needed)
    assert found
    assert all(what.startswith(policy.PRIVACY) for what in found)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["task_result_filters"][0]["args"].update(clip_norm=0.5, noise_multiplier=2),
        lambda s: s["task_result_filters"][0]["args"].update(
            max_epsilon=20.0, delta=1e-6
        ),  # MS-J121: its own to decide
        lambda s: s["task_result_filters"][0]["args"].update(max_epsilon=None),
        lambda s: s["task_result_filters"][1]["args"].update(keep=0.01, feedback=False),
        lambda s: s["task_result_filters"].insert(0, {"path": "hospital.Own", "args": {"a": 1}}),
        lambda s: s["task_data_filters"].append({"path": "hospital.Own"}),
        lambda s: s["properties"].update(owner="radiology"),
    ],
)
def test_what_a_site_makes_stricter_or_decides_itself_is_no_loosening(local, change):
    write(local, CLIPPED, change)
    assert policy.loosened(local, CLIPPED) == []


@pytest.mark.parametrize(
    ("needed", "own"),
    [("none", "clip_noise"), ("none", "top_k"), ("none", "he"), ("fp16", "top_k"), ("fp16", "he")],
)
def test_a_site_may_take_a_stricter_setting(local, needed, own):
    write(local, load_privacy(own))
    assert policy.loosened(local, load_privacy(needed)) == []
    if needed != "none":
        write(local, load_privacy(needed))
        assert policy.loosened(local, load_privacy(own)) != []


def test_code_and_further_resources_in_the_folder_are_told(local):
    (local / "custom").mkdir()
    (local / "extra__resources.json").write_text("{}", encoding="utf-8")
    assert len(policy.loosened(local)) == 2
