"""Three uneven sites of the hippocampus set train together; beside them all cases in one place, and every site alone.

The recipe is what `medseg plan` makes of one site's cases, half as wide, for time: three hours on two cores. All cases in one
place take as many steps as the sites together, a site alone those that it took itself; the best of these once more takes
those of all three. Scored on the 40 validation cases that none of them holds, each on the network's grid by the recipe's own
metric. MEDSEG_RUNS keeps the run, and a stopped run goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from three_sites import SITES, write_three_sites
from trained import ROOT, folders, medseg, read, row

ROUNDS, STEPS = 20, 180
# The references are the same for both; the first run trains them.
ALGORITHMS = ("fedavg", "fedprox")
WITHIN = 0.015


def rows(quick: bool = False) -> list[dict]:
    data = Path(os.environ.get("MEDSEG_DATA") or ROOT.parent / "shared" / "data", "hippocampus")
    if not data.is_dir():
        raise SystemExit(f"no hippocampus at {data.parent}: set MEDSEG_DATA")
    rounds, steps, most = (2, 2, 6) if quick else (ROUNDS, STEPS, None)
    with folders() as (runs, _):
        sites = prepared(data, runs, most)
        ours = {}
        for name in ALGORITHMS[: 1 if quick else None]:
            words = ["--compare"] if name == ALGORITHMS[0] else []
            ours[name] = simulated(runs, sites, name, rounds, steps, name, *words)
        references = {key: value for key, value in ours[ALGORITHMS[0]].items() if key.startswith(("central", "alone "))}
        if not quick:
            strongest = max((key for key in references if key != "central"), key=references.__getitem__)
            steps_of_all = f"{strongest}, {len(SITES)} times the steps"
            references[steps_of_all] = longer(runs, sites, strongest.removeprefix("alone "), rounds, steps)
    references[f"all cases in one place - {WITHIN}"] = references.pop("central") - WITHIN
    return [
        row(f"{name}: Dice of the test site", peer, table["global"], value)
        for name, table in ours.items()
        for peer, value in references.items()
    ]


def prepared(data: Path, runs: Path, most: int | None) -> dict[str, Path]:
    """Each site's folder, 'test' last; and beside them the recipe."""
    sites = write_three_sites(data, runs / "data", most)
    if not (runs / "bundle").is_dir():
        shutil.rmtree(runs / "planned", ignore_errors=True)  # of a run that was stopped here
        medseg("plan", sites["north"], "-o", runs / "planned")
        for name in ("train.json", "inference.json"):
            narrow(runs / "planned" / "configs" / name)
        (runs / "planned").replace(runs / "bundle")
    return sites


def simulated(
    runs: Path, sites: dict[str, Path], name: str, rounds: int, steps: int, algorithm: str | Path, *words: str
) -> dict[str, float]:
    """The test site's row of the simulation's table."""
    listed = runs / f"{name}.yaml"
    listed.write_text(
        "sites:\n"
        + "".join(f"  - {{name: {site}, data: {place}}}\n" for site, place in sites.items() if site != "test")
        + f"  - {{name: test, data: {sites['test']}, held_out: true}}\n"
    )
    size = ("--rounds", rounds, "--local-steps", steps)
    told = ("federate", "simulate", runs / "bundle", "--sites", listed, "--algorithm", algorithm, *size)
    command = [sys.executable, "-m", "medseg", *map(str, told), "-o", str(runs / name), "--resume", "--json", *words]
    table = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["table"]
    return next(one for one in table if one["site"] == "test")


def longer(runs: Path, sites: dict[str, Path], site: str, rounds: int, steps: int) -> float:
    """A site by itself, with as many steps as all of them took: a federation of one is a training of its own."""
    one = runs / "one.yaml"
    one.write_text(f"rounds: {rounds}\nlocal_epochs: null\nlocal_steps: {steps}\nquorum: 1\n")
    alone = {name: sites[name] for name in (site, "test")}
    return simulated(runs, alone, f"{site}_longer", rounds, len(SITES) * steps, one)["global"]


def narrow(path: Path) -> None:
    """Half as many channels at every level: a step takes two fifths of the time."""
    config = read(path)
    config["network_def"]["features"] = [one // 2 for one in config["network_def"]["features"]]
    path.write_text(json.dumps(config, indent=4))
