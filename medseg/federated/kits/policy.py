"""What a site lets happen on its machine: the files of a start-up kit's `local/`, and whether they were loosened.

NVFLARE's own defaults are made for trying things out. Those that matter here, seen in 2.9: any project administrator may
`cat` files of a site, errors and their tracebacks are streamed to the server (a `false` in the project's file is
ignored: `get_prop_fb` takes it for missing), everything at the top of resources.json is told to the server when a site
registers, jobs may bring code, 88 classes may be named by a job, and jobs are kept in the system's temporary folder.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from medseg.federated.privacy.settings import PACKINGS, SCOPE, Privacy, data_filters, filters, privacy_from

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESOURCES, AUTHORIZATION, PRIVACY = "resources.json", "authorization.json", "privacy.json"
#: All that a job may name. Exact classes, not the package: any other callable of it stays out of reach.
JOB_CLASSES = (
    "medseg.federated.executor.MedsegExecutor",
    "medseg.federated.controller.MedsegController",
    "medseg.federated.stats.executor.StatsExecutor",
    "medseg.federated.stats.controller.StatsController",
)
#: Rights that nobody has at a site: code that a job brings, and looking at its files from afar.
NEVER = ("byoc", "shell_commands", "clone_job", "server-predeployed-flwr")

#: The last filter on whatever leaves a site.
AUDIT = "medseg.federated.privacy.audit_filter.AuditFilter"
#: Every filter on results that a setting can mean, in its order, and the arguments that a kit gives it.
_FILTERS = {one["path"]: set(one["args"]) for one in filters(Privacy("", 1.0, packing="fp16"))}
_CLIP, _PACK, _ = _FILTERS
_FILTERS[AUDIT] |= {"encrypted"}
#: Sites may be added to a project without a new kit for the server.
_MOST_SITES = 1000
_LAUNCHERS = "nvflare.app_common.job_launcher"


def site_resources(classes: tuple[str, ...] = JOB_CLASSES) -> dict[str, Any]:
    """`resources.json` of a site: nothing is streamed or told about it, and jobs may name our classes alone."""
    return {
        "format_version": 2,
        "class_list_enforcement_mode": "enforce",
        "class_allow_list": list(classes),
        "allow_log_streaming": False,
        "client": {"retry_timeout": 30, "compression": "Gzip", "site_config": {}},
        "components": [
            _component("resource_manager", "nvflare.app_common.resource_managers.gpu_resource_manager.GPUResourceManager",
                       num_of_gpus=0, mem_per_gpu_in_GiB=0, expiration_period=300),
            _component("resource_consumer",
                       "nvflare.app_common.resource_consumers.gpu_resource_consumer.GPUResourceConsumer"),
            _component("process_launcher", f"{_LAUNCHERS}.client_process_launcher.ClientProcessJobLauncher"),
        ],
    }  # fmt: skip


def server_resources(store: Path, heart_beat_timeout_s: int, classes: tuple[str, ...] = JOB_CLASSES) -> dict[str, Any]:
    """`resources.json` of the server.

    Args:
        store: folder of its jobs and their results; NVFLARE wants the absolute path.
        heart_beat_timeout_s: a site that has been silent for so long counts as gone.
        classes: all that a job may name.
    """
    storage = "nvflare.app_common.storages.filesystem_storage.FilesystemStorage"
    snapshots = {"root_dir": str(store / "snapshots"), "uri_root": "/"}
    return {
        "format_version": 2,
        "class_list_enforcement_mode": "enforce",
        "class_allow_list": list(classes),
        "servers": [
            {
                "admin_storage": "transfer",
                "max_num_clients": _MOST_SITES,
                "heart_beat_timeout": heart_beat_timeout_s,
                "admin_timeout": 10.0,
            }
        ],
        "snapshot_persistor": {
            "path": "nvflare.app_common.state_persistors.storage_state_persistor.StorageStatePersistor",
            "args": {"uri_root": "/", "storage": {"path": storage, "args": snapshots}},
        },
        "components": [
            _component("job_scheduler", "nvflare.app_common.job_schedulers.job_scheduler.DefaultJobScheduler", max_jobs=1),
            _component("job_manager", "nvflare.apis.impl.job_def_manager.SimpleJobDefManager",
                       uri_root=str(store / "jobs"), job_store_id="job_store"),
            _component("job_store", storage),
            _component("process_launcher", f"{_LAUNCHERS}.server_process_launcher.ServerProcessJobLauncher"),
            _component("quorum_decides", "medseg.federated.kits.outcomes.QuorumDecides"),
        ],
    }  # fmt: skip


def site_authorization() -> dict[str, Any]:
    """`authorization.json` of a site: leads submit jobs without code and stop their own; nobody looks at files."""
    nobody = dict.fromkeys((*NEVER, "operate"), "none")
    lead = {"submit_job": "any", "manage_job": "o:submitter", "download_job": "none", "view": "o:site", **nobody}
    member = {"submit_job": "none", "manage_job": "none", "download_job": "none", "view": "o:site", **nobody}
    return {"format_version": "1.0", "permissions": {"lead": lead, "member": member}}


def server_authorization() -> dict[str, Any]:
    """`authorization.json` of the server: leads submit, watch, stop and fetch their jobs; members look on."""
    never = dict.fromkeys(NEVER, "none")
    lead = {"submit_job": "any", "manage_job": "o:submitter", "download_job": "o:submitter", "view": "any",
            "get_job_log": "any", "operate": "o:site", **never}  # fmt: skip
    member = {"submit_job": "none", "manage_job": "none", "download_job": "none", "view": "any", "get_job_log": "any",
              "operate": "none", **never}  # fmt: skip
    return {"format_version": "1.0", "permissions": {"lead": lead, "member": member}}


def _component(name: str, path: str, **args: Any) -> dict[str, Any]:
    return {"id": name, "path": path, "args": args}


def loosened(local: Path, needed: Privacy | None = None) -> list[str]:
    """What in a site's `local/` lets more happen than medseg's kits do, or is not there; [] where nothing does.

    Args:
        local: the folder.
        needed: what the kit's filters have to do to updates at least; None: the audit alone.
    """
    found: list[str] = []
    for name, look in ((RESOURCES, _resources), (AUTHORIZATION, _authorization)):
        content = _content(local, name)
        found += [f"{name}: {what}" for what in look(content)] if content else [_missing(name)]
    found += weakened(local, needed)
    if (local / "custom").exists():
        found.append("custom/ holds code that every job could name")
    extra = sorted(path.name for path in local.glob("*resources.json") if path.name != RESOURCES)
    return found + [f"{name} adds to {RESOURCES}" for name in extra]


def weakened(local: Path, needed: Privacy | None = None) -> list[str]:
    """What a site's `local/privacy.json` does not do to updates that it has to; as `loosened`."""
    content = _content(local, PRIVACY)
    return [f"{PRIVACY}: {what}" for what in _privacy(content, needed)] if content else [_missing(PRIVACY)]


def encrypts(local: Path) -> bool:
    """Whether a site's own filters encrypt updates, and open what comes, on every job."""
    return not weakened(local, Privacy("", encrypted=True))


def _content(local: Path, name: str) -> dict[str, Any]:
    """A file of `local/`; {} where it is none."""
    try:
        content = json.loads((local / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _missing(name: str) -> str:
    return f"{name} is missing, empty or no JSON"


def _resources(content: dict[str, Any]) -> Iterator[str]:
    if content.get("class_list_enforcement_mode") != "enforce":
        yield "class_list_enforcement_mode is not enforce"
    extra = sorted(set(map(str, content.get("class_allow_list", ["*"]))) - set(JOB_CLASSES))
    if extra:
        yield f"jobs may name {', '.join(extra[:3])}"
    if content.get("allow_log_streaming", True) is not False:
        yield "allow_log_streaming is not false: logs with file names would be sent"
    if content.get("client", {}).get("site_config", None) != {}:
        yield "client.site_config is not {}: the rest of the file would be told to the server"
    usual = {one["path"] for one in site_resources()["components"]}
    strange = sorted({str(one.get("path")) for one in content.get("components", [])} - usual)
    if strange:
        yield f"components holds {', '.join(strange[:3])}"


def _authorization(content: dict[str, Any]) -> Iterator[str]:
    usual = site_authorization()["permissions"]
    for role, rights in content.get("permissions", {}).items():
        if role not in usual or not isinstance(rights, dict):
            yield f"the role {role} may do what no kit allows"
            continue
        for right, who in rights.items():
            if who != "none" and usual[role].get(right) != who:
                yield f"{role} has {right}: {who}"


def _privacy(content: dict[str, Any], needed: Privacy | None) -> Iterator[str]:
    scopes = _components(content.get("scopes"))
    if content.get("default_scope") != SCOPE or [one.get("name") for one in scopes] != [SCOPE]:
        yield f"its one scope is not {SCOPE}, so that a job could choose another"
    for scope in scopes:
        on_results = _components(scope.get("task_result_filters"))
        if not on_results or on_results[-1].get("path") != AUDIT or on_results[-1].get("direction"):
            yield f"the last filter on results of {scope.get('name')} is not the audit: nothing checks what leaves"
            continue
        try:
            found = _setting(on_results, _components(scope.get("task_data_filters")))
        except (ValueError, TypeError) as error:
            yield f"its filters are none that medseg writes: {error}"
            continue
        if needed is not None:
            yield from _less(found, needed)


def _components(listed: Any) -> list[dict[str, Any]]:
    """A list of components; what is none counts as one without a path."""
    return [one if isinstance(one, dict) else {} for one in listed] if isinstance(listed, list) else []


def _setting(on_results: list[dict[str, Any]], on_data: list[dict[str, Any]]) -> Privacy:
    """The setting that a site's filters mean. Filters of its own may stand before ours, where they see what ours then treat.

    Raises:
        ValueError: ours in another order, with a key of NVFLARE's that turns them off, or with arguments that no kit has.
        TypeError: an argument of another type.
    """
    before, ours = list(on_results), dict[str, dict[str, Any]]()
    for path, known in reversed(_FILTERS.items()):
        if before and before[-1].get("path") == path:
            one = before.pop()
            ours[path] = dict(one.get("args") or {})
            # `disabled` and `direction` would take it out of the way; `record` and `ledger` hide what left.
            strange = sorted((set(one) - {"path", "args"}) | (set(ours[path]) - known))
            if strange:
                msg = f"{_short(path)} has {', '.join(strange[:3])}"
                raise ValueError(msg)
    audit = ours[AUDIT]
    said = {"packing": "none", "encrypted": audit.get("encrypted", False)}
    found = privacy_from(said | ours.get(_CLIP, {}) | ours.get(_PACK, {}), "")
    wanted = [one["path"] for one in filters(found)]
    if sorted(wanted) != sorted(ours) or {one.get("path") for one in before} & set(_FILTERS):
        msg = f"of medseg's there have to be {', then '.join(map(_short, wanted))}, and nothing between or behind"
        raise ValueError(msg)
    if audit.get("packing", "none") != found.packing:
        msg = f"the audit's packing is not {found.packing}, as the filters before it make it: nothing could leave"
        raise ValueError(msg)
    if any(one not in [{"args": {}, **other} for other in on_data] for one in data_filters(found)):
        msg = "nothing opens what comes encrypted"
        raise ValueError(msg)
    return found


def _less(found: Privacy, needed: Privacy) -> Iterator[str]:
    """What a site's filters do less than they have to. Its budget (`max_epsilon`, `delta`) and memory are its own."""
    if needed.encrypted and not found.encrypted:
        yield "updates would not leave encrypted, as the kit says"
    if needed.clip_norm is not None and (found.clip_norm is None or found.clip_norm > needed.clip_norm):
        yield f"updates would not be clipped to {needed.clip_norm:g}, as the kit says"
    if found.noise_multiplier < needed.noise_multiplier:
        yield f"updates would get less noise than {needed.noise_multiplier:g} times clip_norm, as the kit says"
    # What is encrypted cannot be packed, and is read by nobody who would see more of it.
    more = PACKINGS.index(found.packing) < PACKINGS.index(needed.packing)
    if not found.encrypted and (more or (found.packing == needed.packing == "top_k" and found.keep > needed.keep)):
        yield f"updates would say more than with packing {needed.packing}, as the kit says"


def _short(path: str) -> str:
    return path.rpartition(".")[2]
