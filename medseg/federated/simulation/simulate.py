"""`medseg federate simulate`: sites that are processes and folders of one machine, and what they learn together.

OUT/global, OUT/sites/NAME      bundles, for `medseg predict` and `medseg evaluate`
OUT/compare/central, alone-NAME with `compare`: all cases in one place, and each site alone, with as much work
OUT/table.csv, rounds.jsonl     every site's scores at the end; what each site did in every round
OUT/simulation.json             bundle, algorithm, sites, versions
OUT/work                        what the participants keep: checkpoints, curves, logs; for --resume
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import medseg
from medseg.bundle.config import read_config
from medseg.bundle.shipped import find_bundle
from medseg.bundle.weights import read_weights, require_weights
from medseg.errors import InputError, OutputError, UsageError
from medseg.federated.bundle_hash import bundle_hash
from medseg.federated.exchange import completed
from medseg.federated.executor import GLOBAL
from medseg.federated.initial import initial_state
from medseg.federated.installed import require_nvflare
from medseg.federated.job import job_folder
from medseg.federated.privacy.settings import data_filters, filters, load_privacy
from medseg.federated.results import write_result
from medseg.federated.rounds import USED
from medseg.federated.sealed_sums import require_possible
from medseg.federated.server_state import load_state, read_rounds
from medseg.federated.simulation.comparison import references
from medseg.federated.simulation.first_look import first_look
from medseg.federated.simulation.simulated import run_simulator
from medseg.federated.simulation.site_table import SiteTable, site_table
from medseg.federated.simulation.sites import Site, gather, read_sites
from medseg.federated.simulation.sites_key import give_key
from medseg.federated.site_recipe import SiteRecipe
from medseg.training.train import named_channels
from medseg.writers.atomic import write_json, write_text
from medseg.writers.tables import csv_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from medseg.federated.algorithm import Algorithm

#: Name of the training in the folders of a simulation.
RUN = "run"


@dataclass(frozen=True)
class Simulated:
    """What a simulation gave.

    Args:
        model: the global bundle.
        sites: name -> the site's own bundle; a site that died has none.
        table: every site's scores.
    """

    model: Path
    sites: dict[str, Path]
    table: SiteTable


def simulate(
    bundle: str | Path,
    sites: Path,
    algorithm: Algorithm,
    out: Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    init: str | Path | None = None,
    privacy: str | Path | None = None,
    compare: bool = False,
    look: bool = True,
    resume: bool = False,
    tell: Callable[[str], object] = str,
) -> Simulated:
    """Train a bundle at simulated sites, each a process of its own.

    Args:
        bundle: folder or shipped name.
        sites: a file such as configs/federation/sites.example.yaml.
        algorithm: how; a quorum larger than the number of training sites is lowered to it.
        out: of everything, see this module.
        overrides: plain values of train.json.
        init: a bundle whose weights are the start.
        privacy: what is done to updates before they leave a site, a name or file of configs/federation/privacy; None:
            nothing. Each site's audit stands behind it in any case.
        compare: train the references too.
        look: compare the sites' data first, and train only where no site's sides or labels are exchanged.
        resume: go on with what is in `out`.
        tell: hears a line whenever something is done.

    Raises:
        MissingExtraError: MS-J053 NVFLARE is not installed.
        UsageError: MS-J015 an override, MS-J020 the file of sites, MS-J022 `resume` with other options, MS-J024 partial
            labels with `compare` or `cases`, MS-J144 an algorithm that does not go with encrypted updates.
        InputError: MS-J018 below the quorum, MS-J147 no site kept an encrypted model, MS-J177 a site that must not train
            as it is, and what data or training refuse.
        OutputError: MS-J017 `out` holds something, and `resume` is off.
        MedsegError: MS-J023 the simulation ended without saying why.
    """
    require_nvflare()
    root, known = find_bundle(bundle).resolve(), read_sites(sites)
    out = out.resolve()  # sites work in folders of their own
    config = read_config(root, "train")
    if "labels_present" in config and (compare or any(site.cases for site in known)):
        raise UsageError(
            "MS-J024", "this bundle is trained on partial labels, which a site's own dataset.json tells", file=root,
            mend="leave out --compare, and give each site a folder of its own instead of `cases`",
        )  # fmt: skip
    training = [site for site in known if not site.held_out]
    how = replace(algorithm, quorum=min(algorithm.quorum, len(training)))
    chosen = load_privacy("none" if privacy is None else privacy)
    if chosen.encrypted:
        require_possible(how)
    said = _said(root, how, known, overrides or {}, init, privacy)
    work = out / "work"
    _begin(out, said, resume=resume)
    channels = named_channels(config)
    folders = {site.name: gather(site, work / "data" / site.name, channels) for site in known}
    server = work / "server" / RUN
    if not _is_done(server, how):
        before = load_state(server)
        if look and before is None:
            first_look(known, root, tell)
        if chosen.encrypted:
            give_key([work / site.name for site in known])
        ours, theirs = filters(chosen), data_filters(chosen)
        shutil.rmtree(work / "jobs", ignore_errors=True)
        job = job_folder(
            work / "jobs", root, how, run=RUN, overrides=overrides, resume=before is not None,
            init="" if init is None else str(find_bundle(init)), filters=ours, data_filters=theirs,
            encrypted=chosen.encrypted,
        )  # fmt: skip
        files = {site.name: asdict(site.file(folders[site.name], root, work / site.name)) for site in known}
        files = {name: {**said, "validation": list(said["validation"]), "look": False} for name, said in files.items()}
        files["server"] = {"bundle": str(root), "work": str(work / "server")}
        run_simulator(job, work, files, [str(one["path"]) for one in (*ours, *theirs)], server, how, tell)
    rows = read_rounds(server)
    write_text(out / "rounds.jsonl", (server / "rounds.jsonl").read_text(encoding="utf-8"))
    everything = _cases(root, how, training, folders, out)
    initial = initial_state(root, overrides=overrides, init=init)
    kept = [work / site.name / RUN / GLOBAL for site in known]
    final = completed(initial.state, _opened_by_a_site(kept, out) if chosen.encrypted else _state_at(server))
    write_result(root, final, out / "global", everything)
    found = {site.name: _own(work / site.name / RUN / "own", out / "sites" / site.name) for site in training}
    table = site_table(rows, [site.name for site in known])
    if compare:
        table = references(
            root, how, known, folders, out, table, initial, overrides or {}, steps=_steps(rows), tell=tell
        )
    write_text(out / "table.csv", csv_text(table.columns, table.rows))
    return Simulated(out / "global", {name: path for name, path in found.items() if path is not None}, table)


def _said(
    root: Path, how: Algorithm, sites: tuple[Site, ...], overrides: Mapping[str, Any], init: Any, privacy: Any
) -> dict[str, Any]:
    """What a simulation is: with `resume` it must be the same."""
    plain = [
        {"name": one.name, "cases": list(one.cases), "validation": list(one.validation), "held_out": one.held_out}
        for one in sites
    ]
    return {
        "bundle": root.name,
        "bundle_hash": bundle_hash(root),
        "algorithm": how.to_json(),
        "sites": plain,
        "overrides": dict(overrides),
        "init": None if init is None else bundle_hash(init),
        "privacy": None if privacy is None else asdict(load_privacy(privacy)),
        "versions": {"medseg": medseg.__version__, "nvflare": version("nvflare")},
    }


def _begin(out: Path, said: Mapping[str, Any], *, resume: bool) -> None:
    path = out / "simulation.json"
    if path.is_file():
        if not resume:
            mend = "give another folder, or go on with --resume"
            raise OutputError("MS-J017", "there is a simulation already", file=out, mend=mend)
        before = json.loads(path.read_text(encoding="utf-8"))
        other = [key for key in said if key != "versions" and before.get(key) != json.loads(json.dumps(said[key]))]
        if other:
            raise UsageError(
                "MS-J022", f"the simulation in this folder was begun otherwise: {', '.join(other)}", file=out,
                mend="give the same bundle, sites and options, or another folder",
            )  # fmt: skip
        return
    if out.exists() and any(out.iterdir()):
        raise OutputError("MS-J017", "the folder is not empty", file=out, mend="give another folder")
    write_json(path, said)


def _is_done(server: Path, how: Algorithm) -> bool:
    """Whether all rounds and the last validation are there."""
    rows = read_rounds(server)
    return bool(rows) and rows[-1]["round"] == how.rounds


def _cases(
    root: Path, how: Algorithm, training: list[Site], folders: Mapping[str, Path], out: Path
) -> list[dict[str, Any]]:
    """The training cases of all sites: their domain is the global model's."""
    found: list[dict[str, Any]] = []
    for site in training:
        recipe = SiteRecipe(root, folders[site.name], out / "work" / site.name / RUN, how, validation=site.validation)
        found += recipe.training_cases()
        recipe.close()
    return found


def _state_at(server: Path) -> Mapping[str, Tensor]:
    """What travelled of the last global state."""
    state = load_state(server)
    return {} if state is None else state.state


def _opened_by_a_site(models: list[Path], out: Path) -> Mapping[str, Tensor]:
    """The last global weights of an encrypted training, which the server cannot read: each site keeps them as a bundle."""
    for model in models:
        if model.is_dir():
            return read_weights(require_weights(model))
    mend = "simulate again in another folder; the logs of the sites in work/nvflare say why"
    raise InputError("MS-J147", "no site kept the global model of this encrypted training", file=out, mend=mend)


def _own(source: Path, target: Path) -> Path | None:
    """A site's own bundle, taken over from its folder."""
    if not source.is_dir():
        return target if target.is_dir() else None
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def _steps(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Site -> steps of the optimiser that it took in all rounds which counted it."""
    found: dict[str, int] = {}
    for row in rows:
        for site, one in row["sites"].items():
            if one["outcome"] == USED:
                found[site] = found.get(site, 0) + int(one["steps"])
    return found
