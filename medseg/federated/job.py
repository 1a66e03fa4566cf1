"""A training as a job of NVFLARE: three files of names and plain values. No code, no data, no place travels with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from medseg.bundle.config import read_config
from medseg.bundle.shipped import find_bundle
from medseg.errors import OutputError, UsageError
from medseg.federated.bundle_hash import bundle_hash
from medseg.federated.overrides import check_overrides
from medseg.federated.sealed_sums import require_possible
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medseg.federated.algorithm import Algorithm

CONTROLLER = "medseg.federated.controller.MedsegController"
EXECUTOR = "medseg.federated.executor.MedsegExecutor"
TASKS = ("train", "validate", "count")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")


def job_folder(
    folder: Path,
    bundle: str | Path,
    algorithm: Algorithm,
    *,
    run: str,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    init: str = "",
    filters: Sequence[Mapping[str, Any]] = (),
    data_filters: Sequence[Mapping[str, Any]] = (),
    encrypted: bool = False,
) -> Path:
    """Write a job that trains a bundle; `medseg federate submit` and the simulator take it.

    Args:
        folder: in which the job, a folder named `run`, is written.
        bundle: its folder or shipped name; all that the job says of it is its name and hash.
        algorithm: rounds, quorum and so on.
        run: name of the training; the server and the sites keep what they make under it.
        overrides: plain values of train.json, see `medseg.federated.overrides`.
        resume: go on from the last good global model of that run.
        init: name of a shipped bundle whose weights are the start.
        filters: on results, as a simulated site runs them; a real site's stand in its own kit, and it refuses these.
        data_filters: on what comes to a simulated site, likewise.
        encrypted: the sites' own filters encrypt what leaves, so the server is to add and not to read.

    Returns:
        The job's folder.

    Raises:
        UsageError: MS-J015 an override is no plain value, MS-J019 the name of the run, MS-J144 an algorithm for which
            the server has to read updates.
        OutputError: MS-J017 there is such a job already.
    """
    if not _NAME.fullmatch(run):
        raise UsageError("MS-J019", f"{run!r} is no name of a training", mend="use letters, digits, '_' and '-'")
    if encrypted:
        require_possible(algorithm)
    root = find_bundle(bundle)
    said = {
        "bundle": root.name,
        "bundle_hash": bundle_hash(root),
        "algorithm": algorithm.to_json(),
        "run": run,
        "overrides": check_overrides(overrides or {}, read_config(root, "train")),
        "resume": resume,
    }
    job = folder / run
    if job.exists():
        raise OutputError("MS-J017", "there is a job of this name already", file=job, mend="give another name")
    server = {
        "format_version": 2,
        "workflows": [{"id": "medseg", "path": CONTROLLER, "args": said | {"init": init, "encrypted": encrypted}}],
        "components": [],
        "task_data_filters": [],
        "task_result_filters": [],
    }
    client = {
        "format_version": 2,
        "executors": [{"tasks": list(TASKS), "executor": {"path": EXECUTOR, "args": said}}],
        "components": [],
        "task_data_filters": _of_each_task(data_filters),
        "task_result_filters": _of_each_task(filters),
    }
    meta = {
        "name": run,
        "resource_spec": {},
        "deploy_map": {"app": ["@ALL"]},
        "min_clients": algorithm.quorum,
    }
    write_json(job / "app" / "config" / "config_fed_server.json", server)
    write_json(job / "app" / "config" / "config_fed_client.json", client)
    write_json(job / "meta.json", meta)
    return job


def _of_each_task(filters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"tasks": [task], "filters": [dict(one) for one in filters]} for task in TASKS] if filters else []
