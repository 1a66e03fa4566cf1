"""Three uneven sites of the hippocampus set train together; beside them all cases in one place, and every site alone.

The recipe is what `medseg plan` makes of the largest site's cases, half as wide, for time: two hours on two cores. All cases
in one place take as many steps as the sites together, a site alone those that it took itself. Scored on the 40 validation
cases that none of them holds, each on the network's grid by the recipe's own metric. MEDSEG_RUNS keeps the run, and a
stopped run goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from three_sites import write_three_sites
from trained import ROOT, folders, medseg, read, row

ROUNDS, STEPS = 20, 120
# The references are the same for both; the first run trains them.
ALGORITHMS = ("fedavg", "fedprox")
WITHIN = 0.015


def rows(quick: bool = False) -> list[dict]:
    data = Path(os.environ.get("MEDSEG_DATA") or ROOT.parent / "shared" / "data", "hippocampus")
    if not data.is_dir():
        raise SystemExit(f"no hippocampus at {data.parent}: set MEDSEG_DATA")
    with folders() as (runs, _):
        tables = {name: simulated(data, runs, name, quick=quick) for name in ALGORITHMS[: 1 if quick else None]}
    references = test_row(tables[ALGORITHMS[0]])
    out = []
    for algorithm, table in tables.items():
        case, ours = f"{algorithm}: Dice of the test site", test_row(table)["global"]
        out.append(row(case, f"all cases in one place - {WITHIN}", ours, references["central"] - WITHIN))
        alone = {name: value for name, value in references.items() if name.startswith("alone")}
        out += [row(case, name, ours, value) for name, value in alone.items()]
    return out


def simulated(data: Path, runs: Path, algorithm: str, *, quick: bool) -> list[dict]:
    """The rows of the simulation's table: a site each."""
    sites = runs / "sites.yaml"
    if not sites.is_file():
        held = write_three_sites(data, runs / "data", 6 if quick else None)
        medseg("plan", held["north"], "-o", runs / "bundle")
        for name in ("train.json", "inference.json"):
            narrow(runs / "bundle" / "configs" / name)
        lines = [f"  - {{name: {name}, data: {place}" for name, place in held.items()]
        sites.write_text(
            "sites:\n" + "\n".join(f"{one}}}" for one in lines[:-1]) + f"\n{lines[-1]}, held_out: true}}\n"
        )
    size = ("--rounds", "2", "--local-steps", "2") if quick else ("--rounds", ROUNDS, "--local-steps", STEPS)
    words = [
        "federate", "simulate", runs / "bundle", "--sites", sites, "--algorithm", algorithm, *size,
        "-o", runs / algorithm, "--resume", "--json",
    ]  # fmt: skip
    words += ["--compare"] if algorithm == ALGORITHMS[0] else []
    command = [sys.executable, "-m", "medseg", *map(str, words)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["table"]


def narrow(path: Path) -> None:
    """Half as many channels at every level: a step takes two fifths of the time."""
    config = read(path)
    config["network_def"]["features"] = [one // 2 for one in config["network_def"]["features"]]
    path.write_text(json.dumps(config, indent=4))


def test_row(table: list[dict]) -> dict:
    return next(one for one in table if one["site"] == "test")
