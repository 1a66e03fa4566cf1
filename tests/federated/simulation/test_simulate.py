"""Simulated sites, each a real process: what they learn together is a bundle; a killed one stops nothing, or says so."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec

import psutil
import pytest
import torch

from medseg.bundle.load import load_bundle
from medseg.bundle.weights import read_weights
from medseg.cli.app import run as run_medseg
from medseg.errors import OutputError, UsageError
from medseg.federated.aggregation import shares
from medseg.federated.algorithm import load_algorithm
from medseg.federated.exchange import travelling
from medseg.federated.initial import initial_state
from medseg.federated.privacy.audit import read_audits
from medseg.federated.privacy.sealing import KEY_FILE, key_id
from medseg.federated.server_state import load_state, read_rounds
from medseg.federated.simulation.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # a simulation starts a process for each site

ALGORITHM = """
rounds: {rounds}
local_epochs: null
local_steps: {steps}
quorum: {quorum}
deadline_s: 300
grace_s: 20
share_cap: 0.6
"""


def command(recipe, sites, out, *words):
    return [
        sys.executable,
        "-m",
        "medseg",
        "federate",
        "simulate",
        str(recipe),
        "--sites",
        str(sites),
        "-o",
        str(out),
        *words,
    ]


def started(*words, **options):
    env = {"OMP_NUM_THREADS": "1", **os.environ}
    return subprocess.Popen(
        command(*words), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, **options
    )


def kill_in_round_one(run, out, name, *, site=True) -> list[psutil.Process]:
    """SIGKILL a site, or the command itself, when the site has made a step; the processes that there were."""
    until = time.monotonic() + 400
    while not (out / "work" / name / "run" / "progress.json").is_file():
        assert run.poll() is None, run.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)
    family = psutil.Process(run.pid).children(recursive=True)
    killed = next(one for one in family if f"--client {name} " in " ".join(one.cmdline()))
    (killed if site else psutil.Process(run.pid)).kill()
    return family


def left(family) -> list[psutil.Process]:
    """Those of a family that still run."""
    return [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def place(tmp_path_factory, cubes):
    """A folder, with a space in its name, of three sites' scans and two files of sites."""
    root = tmp_path_factory.mktemp("sim") / "my sites"
    cubes(root / "a", range(6))
    cubes(root / "b", range(10, 14), shift=40.0)
    cubes(root / "t", range(20, 22))
    rows = [{"name": "a", "data": "a"}, {"name": "b", "data": "b"}]
    held = {"name": "t", "data": "t", "held_out": True}
    (root / "two.yaml").write_text(json.dumps({"sites": rows}), encoding="utf-8")
    (root / "alone.yaml").write_text(json.dumps({"sites": rows[:1]}), encoding="utf-8")
    (root / "three.yaml").write_text(json.dumps({"sites": [*rows, held]}), encoding="utf-8")
    return root


def test_two_sites_and_a_held_out_one(place, small_recipe):
    """One run, with references, looked at from all sides: it takes longest of all."""
    (place / "plain.yaml").write_text(ALGORITHM.format(rounds=2, steps=3, quorum=2), encoding="utf-8")
    out = place / "out"
    run = started(
        small_recipe, place / "three.yaml", out, "--algorithm", str(place / "plain.yaml"), "--compare", "--json"
    )
    said, told = run.communicate(timeout=500)
    assert run.returncode == 0, told[-4000:]
    the_global_model_is_the_mean_of_what_the_sites_sent(out, small_recipe)
    the_table_shows_every_site_mean_and_worst(out, json.loads(said), told)
    every_model_is_an_ordinary_bundle(out, place)
    no_data_and_no_place_stands_in_the_job(out, place)
    what_each_site_sent_is_written_down(out)
    a_folder_in_use_and_other_options_are_refused(out, place, small_recipe)


def the_global_model_is_the_mean_of_what_the_sites_sent(out, small_recipe):
    rows = read_rounds(out)
    assert [row["round"] for row in rows] == [0, 1, 2]
    for row in rows[:2]:
        outcomes = {site: one["outcome"] for site, one in row["sites"].items()}
        assert outcomes == {"a": "used", "b": "used", "t": "tested"}
        assert {site: one["share"] for site, one in row["sites"].items() if "share" in one} == shares(
            {"a": 5, "b": 3}, 0.6
        )
        assert all(one["steps"] == 3 for one in row["sites"].values() if "steps" in one)
    assert rows[1]["sites"]["a"]["metrics"]["loss"] < rows[0]["sites"]["a"]["metrics"]["loss"]
    state = load_state(out / "work" / "server" / "run")
    assert state.rounds == 2
    weights = read_weights(out / "global" / "models" / "model.safetensors")
    before = travelling(initial_state(small_recipe).state)
    assert all(torch.equal(weights[name], value.half()) for name, value in state.state.items())
    assert max(float((value - before[name]).abs().max()) for name, value in state.state.items()) > 1e-3


def the_table_shows_every_site_mean_and_worst(out, said, told):
    with (out / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["site"] for row in rows] == ["a", "b", "t", "mean", "worst"]
    assert list(rows[0]) == ["site", "training cases", "global", "alone a", "alone b", "central"]
    assert [row["training cases"] for row in rows] == ["5", "3", "0", "8", ""]
    scores = [float(row["global"]) for row in rows]
    assert scores[3] == pytest.approx(sum(scores[:3]) / 3)
    assert scores[4] == min(scores[:3])
    assert said["metric"] == "val_mean_dice"
    assert [row["site"] for row in said["table"]] == ["a", "b", "t", "mean", "worst"]
    for line in ("round 1/2  a  used  3 steps", "round 2/2  b  used", "round 1/2  t  tested", "last model  a  tested",
                 "alone-a: 6 steps, done", "central: 12 steps, done"):  # fmt: skip
        assert line in told


def every_model_is_an_ordinary_bundle(out, place):
    references = [out / "compare" / "central", out / "compare" / "alone-a"]
    for model in (out / "global", out / "sites" / "a", out / "sites" / "b", *references):
        assert load_bundle(model).domain.cases in (3, 5, 8)
    assert not (out / "sites" / "t").exists()
    masks, scores = str(place / "masks"), str(place / "scores")
    assert run_medseg(["predict", str(place / "t" / "imagesTr"), "-o", masks, "-b", str(out / "global")]) == 0
    assert len(list((place / "masks").glob("*/segmentation.nii.gz"))) == 2
    assert run_medseg(["evaluate", masks, str(place / "t" / "labelsTr"), "-o", scores]) == 0


def no_data_and_no_place_stands_in_the_job(out, place):
    text = "".join(path.read_text(encoding="utf-8") for path in (out / "work" / "jobs").rglob("*.json"))
    assert str(place) not in text
    assert "imagesTr" not in text


def what_each_site_sent_is_written_down(out):
    found = {one.path.parent.name: one for one in read_audits(out)}
    assert set(found) == {"a", "b", "t"}
    for one in found.values():
        assert [(row["task"], row["verdict"]) for row in one.rows] == [("train", "sent")] * 2 + [("validate", "sent")]
    assert [row["kind"] for row in found["a"].rows] == ["WEIGHT_DIFF", "WEIGHT_DIFF", "METRICS"]
    assert {row["kind"] for row in found["t"].rows} == {"METRICS"}
    assert found["a"].rows[0]["scalars"]["medseg_cases"] == 5


def a_folder_in_use_and_other_options_are_refused(out, place, small_recipe):
    sites, how, told = place / "three.yaml", place / "plain.yaml", []
    with pytest.raises(OutputError, match="MS-J017"):
        simulate(small_recipe, sites, load_algorithm(how), out)
    with pytest.raises(UsageError, match=r"MS-J022[\s\S]*algorithm"):
        simulate(small_recipe, sites, load_algorithm(how, mu=0.5), out, resume=True)
    before = read_weights(out / "global" / "models" / "model.safetensors")
    again = simulate(small_recipe, sites, load_algorithm(how), out, resume=True, tell=told.append)
    assert told == []  # nothing was left to do
    after = read_weights(again.model / "models" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.skipif(find_spec("tenseal") is None, reason='no tenseal (pip install "medseg[encrypted]")')
def test_encrypted_the_key_and_the_model_are_the_sites_alone(place, small_recipe):
    (place / "he.yaml").write_text(ALGORITHM.format(rounds=1, steps=2, quorum=1), encoding="utf-8")
    out = place / "encrypted"
    run = started(small_recipe, place / "alone.yaml", out, "--algorithm", str(place / "he.yaml"), "--privacy", "he")
    _, told = run.communicate(timeout=500)
    assert run.returncode == 0, told[-4000:]
    work = out / "work"
    key = (work / "a" / KEY_FILE).read_bytes()
    holders = {
        path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and key in path.read_bytes()
    }
    assert holders == {f"work/a/{KEY_FILE}"}
    assert not list((work / "server").rglob("model.*"))
    assert load_state(work / "server" / "run").said["medseg_key"] == key_id(key)
    (one,) = read_audits(out)
    assert [(row["task"], row.get("types")) for row in one.rows] == [
        ("count", None),
        ("train", ["ckks"]),
        ("validate", None),
    ]
    opened = read_weights(work / "a" / "run" / "global" / "models" / "model.safetensors")
    found = read_weights(out / "global" / "models" / "model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in opened.items())
    assert load_bundle(out / "global").domain.cases == 5


def test_a_killed_site_does_not_stop_the_others(place, small_recipe):
    (place / "one.yaml").write_text(ALGORITHM.format(rounds=2, steps=20, quorum=1), encoding="utf-8")
    out = place / "killed"
    run = started(small_recipe, place / "two.yaml", out, "--algorithm", str(place / "one.yaml"))
    family = kill_in_round_one(run, out, "b")
    _, told = run.communicate(timeout=400)
    assert run.returncode == 0, told[-4000:]
    outcomes = [{site: one["outcome"] for site, one in row["sites"].items()} for row in read_rounds(out)]
    assert outcomes == [{"a": "used", "b": "missing"}] * 2 + [{"a": "tested", "b": "missing"}]
    assert load_bundle(out / "global").domain.cases == 8
    assert not (out / "sites" / "b").exists()
    assert left(family) == []


def test_below_the_quorum_it_fails_and_can_be_gone_on_with(place, small_recipe):
    (place / "both.yaml").write_text(ALGORITHM.format(rounds=2, steps=20, quorum=2), encoding="utf-8")
    out, words = place / "below", ["--algorithm", str(place / "both.yaml")]
    run = started(small_recipe, place / "two.yaml", out, *words)
    family = kill_in_round_one(run, out, "b")
    _, told = run.communicate(timeout=400)
    assert "MS-J018" in told
    assert "b missing" in told
    assert run.returncode == 3
    assert left(family) == []
    assert load_state(out / "work" / "server" / "run").rounds == 0
    again = started(small_recipe, place / "two.yaml", out, *words, "--resume")
    _, told = again.communicate(timeout=400)
    assert again.returncode == 0, told[-4000:]
    assert [row["round"] for row in read_rounds(out)] == [0, 1, 2]


def test_a_killed_simulation_leaves_no_process(place, small_recipe):
    (place / "long.yaml").write_text(ALGORITHM.format(rounds=2, steps=20, quorum=1), encoding="utf-8")
    out, words = place / "stopped", ["--algorithm", str(place / "long.yaml")]
    run = started(small_recipe, place / "alone.yaml", out, *words)
    family = kill_in_round_one(run, out, "a", site=False)
    until = time.monotonic() + 30
    while left(family):
        assert time.monotonic() < until, left(family)
        time.sleep(0.2)
