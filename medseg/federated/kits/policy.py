"""What a site lets happen on its machine: the files of a start-up kit's `local/`, and whether they were loosened.

NVFLARE's own defaults are made for trying things out. Those that matter here, seen in 2.9: any project administrator may
`cat` files of a site, errors and their tracebacks are streamed to the server (a `false` in the project's file is
ignored: `get_prop_fb` takes it for missing), everything at the top of resources.json is told to the server when a site
registers, jobs may bring code, 88 classes may be named by a job, and jobs are kept in the system's temporary folder.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from medseg.federated.privacy.settings import SCOPE

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


def loosened(local: Path) -> list[str]:
    """What in a site's `local/` lets more happen than medseg's kits do, or is not there; [] where nothing does.

    Args:
        local: the folder.
    """
    found: list[str] = []
    for name, look in ((RESOURCES, _resources), (AUTHORIZATION, _authorization), (PRIVACY, _privacy)):
        try:
            content = json.loads((local / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = None
        if isinstance(content, dict) and content:
            found += [f"{name}: {what}" for what in look(content)]
        else:
            found.append(f"{name} is missing, empty or no JSON")
    if (local / "custom").exists():
        found.append("custom/ holds code that every job could name")
    extra = sorted(path.name for path in local.glob("*resources.json") if path.name != RESOURCES)
    return found + [f"{name} adds to {RESOURCES}" for name in extra]


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


def _privacy(content: dict[str, Any]) -> Iterator[str]:
    scopes = {one.get("name"): one for one in content.get("scopes", []) if isinstance(one, dict)}
    if content.get("default_scope") != SCOPE or set(scopes) != {SCOPE}:
        yield f"its one scope is not {SCOPE}, so that a job could choose another"
    for name, scope in scopes.items():
        filters = scope.get("task_result_filters") or [{}]
        if filters[-1].get("path") != AUDIT or filters[-1].get("direction"):
            yield f"the last filter on results of {name} is not the audit: nothing checks what leaves"
