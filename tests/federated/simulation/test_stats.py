"""The statistics over NVFLARE: a server and a process a site; what arrives is what one process finds, and nothing else."""

from __future__ import annotations

import json

import pytest
import yaml

from medseg.errors import OutputError
from medseg.federated.simulation.stats import simulate_stats
from medseg.federated.stats.exchange import statistics_of
from medseg.federated.stats.fingerprint_json import from_json
from medseg.federated.stats.reference import channels_and_labels
from medseg.federated.stats.report import CONSORTIUM, PICTURE, REPORT

#: Stands in the name of every file of one site.
SECRET = "SURNAME19451231"


@pytest.fixture(scope="module")
def federation(cubes, small_recipe, tmp_path_factory):
    """Three sites of which one has other grey values, one that is tested on only, and one whose labels are swapped."""
    root = tmp_path_factory.mktemp("federation")
    cubes(root / "north", range(6), prefix=SECRET)
    cubes(root / "south", range(10, 16))
    cubes(root / "west", range(20, 27), shift=300.0)
    cubes(root / "test", range(30, 36))
    rows = [{"name": name, "data": name, "held_out": name == "test"} for name in ("north", "south", "west", "test")]
    (root / "sites.yaml").write_text(yaml.safe_dump({"sites": rows}), encoding="utf-8")
    return root


@pytest.mark.slow
def test_a_simulation_finds_what_one_process_finds_and_tells_no_name(federation, small_recipe, tmp_path):
    out = simulate_stats(federation / "sites.yaml", tmp_path / "out", bundle=small_recipe)
    report = json.loads((out / REPORT).read_text("utf-8"))
    sites = {name: federation / name for name in ("north", "south", "west", "test")}
    labels = channels_and_labels(small_recipe)[1]
    wanted = statistics_of(sites, labels=labels, held_out=["test"])
    assert report == json.loads(json.dumps(wanted.to_json()))
    assert {(one["site"], one["code"]) for one in report["findings"]} == {("west", "MS-J151")}
    assert report["pooled"]["cases"] == 19
    consortium = json.loads((out / CONSORTIUM).read_text("utf-8"))
    assert from_json(consortium["pooled"]) == wanted.pooled
    assert "findings" not in consortium
    assert (out / PICTURE).read_bytes().startswith(b"\x89PNG")
    _nowhere(SECRET, out, federation)


def _nowhere(secret, out, federation):
    """In no file that the server has, its log and NVFLARE's messages included."""
    held = [path for path in (out / "work" / "server", out / "work" / "nvflare" / "server") if path.exists()]
    files = [path for folder in [*held, out] for path in folder.rglob("*") if path.is_file()]
    ours = [path for path in files if "data" not in path.relative_to(out).parts and "north" not in path.parts]
    assert ours
    assert [path for path in ours if secret.encode() in path.read_bytes()] == []


def test_a_folder_that_holds_something_is_left_alone(federation):
    with pytest.raises(OutputError, match="not empty") as raised:
        simulate_stats(federation / "sites.yaml", federation)
    assert raised.value.code == "MS-J172"
