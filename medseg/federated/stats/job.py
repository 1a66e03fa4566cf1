"""The statistics as a job of NVFLARE: three files of names and plain values, as of a training (`medseg.federated.job`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medseg.bundle.shipped import find_bundle
from medseg.errors import OutputError, UsageError
from medseg.federated.bundle_hash import bundle_hash
from medseg.federated.stats.fingerprint import AT_LEAST
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

CONTROLLER = "medseg.federated.stats.controller.StatsController"
EXECUTOR = "medseg.federated.stats.executor.StatsExecutor"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")


def stats_job(
    folder: Path,
    *,
    run: str = "stats",
    bundle: str | Path | None = None,
    at_least: int = AT_LEAST,
    quorum: int = 2,
    deadline_s: float = 3600.0,
    grace_s: float = 600.0,
    filters: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write a job that compares the data of all sites.

    Args:
        folder: in which the job, a folder named `run`, is written.
        run: name under which the server keeps what it writes.
        bundle: the one that is to be trained, its folder or shipped name; None: there is none yet.
        at_least: cases below which a site is to say nothing.
        quorum: sites that must answer.
        deadline_s: for a site to read its cases and answer.
        grace_s: for the others once the quorum has answered.
        filters: on results, as a simulated site runs them; a real site's stand in its own kit, and it refuses these.

    Returns:
        The job's folder.

    Raises:
        UsageError: MS-J175 a name, or a number that is no number of cases, sites or seconds.
        OutputError: MS-J172 there is such a job already.
    """
    if not _NAME.fullmatch(run) or at_least < 1 or quorum < 1 or not 0 < deadline_s < 1e7 or not 0 <= grace_s < 1e7:
        mend = "names hold letters, digits, '_' and '-'; cases and sites are at least 1, seconds above 0"
        raise UsageError("MS-J175", f"statistics {run!r} of {at_least} cases at {quorum} sites", mend=mend)
    job = folder / run
    if job.exists():
        raise OutputError("MS-J172", "there is a job of this name already", file=job, mend="give another name")
    said = {"bundle": "", "bundle_hash": ""}
    if bundle is not None:
        root = find_bundle(bundle)
        said = {"bundle": root.name, "bundle_hash": bundle_hash(root)}
    numbers = {"run": run, "at_least": at_least, "quorum": quorum, "deadline_s": deadline_s, "grace_s": grace_s}
    plain = {"format_version": 2, "components": [], "task_data_filters": []}
    results = [{"tasks": ["stats"], "filters": [dict(one) for one in filters]}] if filters else []
    server = plain | {
        "workflows": [{"id": "medseg", "path": CONTROLLER, "args": said | numbers}], "task_result_filters": [],
    }  # fmt: skip
    client = plain | {
        "executors": [{"tasks": ["stats"], "executor": {"path": EXECUTOR, "args": said}}], "task_result_filters": results,
    }  # fmt: skip
    write_json(job / "app" / "config" / "config_fed_server.json", server)
    write_json(job / "app" / "config" / "config_fed_client.json", client)
    meta = {"name": run, "resource_spec": {}, "deploy_map": {"app": ["@ALL"]}, "min_clients": quorum}
    write_json(job / "meta.json", meta)
    return job
