"""The statistics of simulated sites: NVFLARE's server and a process a site, on one machine, as `medseg federate simulate`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from medseg.bundle.config import read_config
from medseg.bundle.shipped import find_bundle
from medseg.errors import OutputError
from medseg.federated.algorithm import Algorithm
from medseg.federated.installed import require_nvflare
from medseg.federated.simulation.simulated import run_simulator
from medseg.federated.simulation.sites import gather, read_sites
from medseg.federated.stats.fingerprint import AT_LEAST
from medseg.federated.stats.job import stats_job
from medseg.federated.stats.report import CONSORTIUM, PICTURE, REPORT
from medseg.training.plan.sources import find_source
from medseg.training.train import named_channels
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from pathlib import Path

_RUN = "stats"


def simulate_stats(
    sites: Path,
    out: Path,
    *,
    bundle: str | Path | None = None,
    at_least: int = AT_LEAST,
    quorum: int = 2,
    deadline_s: float = 3600.0,
) -> Path:
    """Compare the data of simulated sites.

    Args:
        sites: a file such as configs/federation/sites.example.yaml.
        out: folder of `stats_report`'s files; an empty or new one.
        bundle: the one that is to be trained; None: there is none yet.
        at_least: cases below which a site is to say nothing.
        quorum: sites that must answer, at most as many as there are.
        deadline_s: for a site to read its cases and answer.

    Returns:
        `out`.

    Raises:
        MissingExtraError: MS-J053 NVFLARE is not installed.
        UsageError: MS-J020 the file of sites, MS-J175 a number.
        InputError: MS-J174 too few sites answered.
        OutputError: MS-J172 `out` holds something.
        MedsegError: MS-J023 the simulation ended without saying why.
    """
    require_nvflare()
    known = read_sites(sites)
    if out.exists() and any(out.iterdir()):
        raise OutputError("MS-J172", "the folder is not empty", file=out, mend="give another with -o")
    work = out / "work"
    root = None if bundle is None else find_bundle(bundle)
    channels = () if root is None else named_channels(read_config(root, "train"))
    quorum = min(quorum, len(known))
    job = stats_job(
        work / "jobs",
        run=_RUN,
        bundle=root,
        at_least=at_least,
        quorum=quorum,
        deadline_s=deadline_s,
        grace_s=deadline_s,
    )
    said = {} if root is None else {"bundle": str(root)}
    files: dict[str, dict[str, Any]] = {"server": {**said, "work": str(work / "server")}}
    for site in known:
        folder = gather(site, work / "data" / site.name, channels)
        if site.cases:
            _keep_names(site.data, folder)
        files[site.name] = {**said, "data": str(folder.resolve()), "held_out": site.held_out}
    run_simulator(job, work, files, [], work / "server" / _RUN, Algorithm(_RUN), _quiet)
    for name in (CONSORTIUM, REPORT, PICTURE):
        shutil.move(work / "server" / _RUN / name, out / name)
    return out


def _keep_names(data: Path, folder: Path) -> None:
    """What dataset.json says of labels and channels, beside links to some of its cases."""
    said = find_source(data).said
    kept = {key: said[key] for key in ("labels", "channel_names", "modality") if key in said}
    if kept:
        write_json(folder / "dataset.json", kept)


def _quiet(line: str) -> None:
    """There are no rounds to tell of."""
