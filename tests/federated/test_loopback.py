"""A federation over real gRPC with mutual TLS on this machine: a server and three sites, each a process of its own.

One server serves all tests (tests/conftest.py keeps them in one of pytest's workers). Sites are killed as machines die:
with SIGKILL, their training too, without a word to anybody.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.bundle.load import load_bundle
from medseg.federated.kits.certificates import CertificateError, greet
from medseg.federated.kits.kit import read_kit
from medseg.federated.kits.prepare import prepare
from tests.federated.federation import DEADLINE_S, ended, federated, wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]

#: In names, headers and voxels of every image.
NAME, BYTES = "PATIENT_0815", b"planted-bytes-4711"
VOXELS = np.array([123.4567, 101.2345, 145.6789, 133.3333], np.float32)


@pytest.fixture(scope="module")
def federation(tmp_path_factory, small_recipe, cubes):
    root, data = tmp_path_factory.mktemp("federation"), {}
    for n, count in ((1, 7), (2, 6), (3, 5)):
        data[f"site-{n}"] = cubes(root / f"scans-{n}", range(10 * n, 10 * n + count), prefix=f"{NAME}_{n}")
        plant(data[f"site-{n}"])
    with federated(root, small_recipe, data, joined=("site-1",)) as found:
        yield found


def plant(folder: Path) -> None:
    """Put what must be found nowhere else into headers and voxels."""
    import nibabel as nib

    for path in (folder / "imagesTr").iterdir():
        image = nib.load(path)
        values = np.asarray(image.dataobj).copy()
        values[:4, 0, 0] = VOXELS  # neighbours in the file
        changed = nib.Nifti1Image(values, image.affine)
        changed.header["descrip"] = BYTES
        nib.save(changed, path)


def test_the_sites_data_are_compared_and_only_counts_and_quantiles_leave(federation):
    out = federation.root / "statistics"
    code, said, told = federation.asked("stats", "-o", str(out), "-b", str(federation.bundle), "--quorum", "3")
    assert code == 0, told
    assert {name: site["cases"] for name, site in said["sites"].items()} == {"site-1": 7, "site-2": 6, "site-3": 5}
    assert said["findings"] == []
    assert said["spacing_mm"] == [1.0, 1.0, 1.0]
    assert {path.name for path in out.iterdir()} == {"consortium.json", "sites.json", "sites.png"}
    rows = [json.loads(line) for line in (federation.site("site-3") / "audit.jsonl").read_text("utf-8").splitlines()]
    sent = [row for row in rows if row["task"] == "stats"]
    assert [(row["verdict"], row["kind"], row["fingerprint_cases"]) for row in sent] == [("sent", "STATISTICS", 5)] * 2


def test_three_sites_train_one_model_and_every_site_has_it_as_a_bundle(federation):
    out = federation.root / "fetched"
    code, job, told = ended(federation.submitted("plain", "-o", str(out)))
    assert code == 0, told
    assert job["status"] == "FINISHED:COMPLETED"
    rows = federation.rounds("plain")
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert all(one["outcome"] == "used" for row in rows[:2] for one in row["sites"].values())
    assert [round(one["share"], 6) for one in rows[0]["sites"].values()] == [round(n / 15, 6) for n in (6, 5, 4)]
    weights = {name: (federation.site(name) / "medseg_work/plain/global/models/model.safetensors") for name in federation.data}  # fmt: skip
    assert len({path.read_bytes() for path in weights.values()}) == 1
    assert (out / "global/models/model.safetensors").read_bytes() in {path.read_bytes() for path in weights.values()}
    assert (out / "rounds.jsonl").is_file()
    assert load_bundle(out / "global").labels == load_bundle(federation.site("site-2") / "medseg_work/plain/own").labels
    assert "round 2 of 2: 3 of 3 sites" in told

    code, state, _ = federation.asked("status")
    assert code == 0
    assert set(state["sites"]) == {"site-1", "site-2", "site-3"}
    assert state["missing"] == []
    assert {job["id"]: job["status"] for job in state["jobs"]}[job["id"]] == "FINISHED:COMPLETED"
    assert any("the server sees each site's update" in line for line in state["promises"])
    assert federation.asked("status", job["id"])[0] == 0
    assert federation.asked("status", "00000000-0000-0000-0000-000000000000")[0] == 2


def test_a_site_that_is_killed_in_round_1_costs_its_update_and_nothing_else(federation):
    began = time.monotonic()
    following = federation.submitted("killed", steps=60)
    wait_for(federation.training("site-3", "killed"))
    federation.kill("site-3")
    killed = time.monotonic()
    code, _, told = ended(following)
    assert code == 0, told
    rows = federation.rounds("killed")
    assert rows[0]["sites"]["site-3"]["outcome"] == "missing"
    assert [rows[n]["sites"][name]["outcome"] for n in (0, 1) for name in ("site-1", "site-2")] == ["used"] * 4
    assert "round 1: site site-3 is missing" in told
    assert time.monotonic() - killed < DEADLINE_S + 60, time.monotonic() - began
    federation.be("site-3")
    federation.connected("site-3")


def test_a_site_that_is_killed_and_begun_again_at_once_costs_no_more(federation):
    following = federation.submitted("again", steps=60)
    wait_for(federation.training("site-1", "again"))
    federation.kill("site-1", only_nvflare=True)  # `medseg federate join` begins it again
    code, _, told = ended(following)
    assert code == 0, told
    rows = federation.rounds("again")
    assert rows[0]["sites"]["site-1"]["outcome"] == "missing"
    assert [rows[n]["sites"][name]["outcome"] for n in (0, 1) for name in ("site-2", "site-3")] == ["used"] * 4
    federation.connected("site-1")


def test_below_the_quorum_with_an_edited_bundle_the_job_fails_names_it_and_leaves_no_process(federation):
    with (federation.bundles["site-2"] / "configs" / "train.json").open("a", encoding="utf-8") as file:
        file.write("\n")
    code, job, told = ended(federation.submitted("edited", quorum=3))
    assert code == 3, told
    assert job["status"] == "FINISHED:EXECUTION_EXCEPTION"
    assert "MS-J018" in told
    assert "site site-2 is failed: it has another bundle, or one that was edited, and refused the job" in told
    failure = json.loads((federation.kits / "server/medseg_results/edited/failure.json").read_text(encoding="utf-8"))
    assert failure["code"] == "MS-J018"
    assert not (federation.site("site-2") / "medseg_work" / "edited").exists()  # it trained nothing
    wait_for(lambda: not federation.job_processes(), 30)
    shutil.copy(federation.bundle / "configs/train.json", federation.bundles["site-2"] / "configs")


def test_a_job_that_is_stopped_leaves_no_process_and_exits_3(federation):
    following = federation.submitted("stopped", rounds=50, steps=60)
    wait_for(federation.training("site-2", "stopped"))
    running = next(job for job in federation.asked("status")[1]["jobs"] if job["name"] == "stopped")
    done = subprocess.run(
        [sys.executable, "-m", "medseg", "federate", "abort", str(federation.lead), running["id"]],
        cwd=federation.root, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    code, job, told = ended(following)
    assert code == 3, told
    assert job["status"] == "FINISHED:ABORTED"
    assert "MS-J063" in told
    wait_for(lambda: not federation.job_processes(), 60)


def test_a_site_of_another_project_is_not_let_in(federation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("strangers")
    shutil.copy(federation.root / "project.yaml", folder)
    prepare(folder / "project.yaml", folder / "made")
    stranger = read_kit(folder / "made" / "sites" / "site-3")
    with pytest.raises(CertificateError, match="not of this project"):
        greet(stranger)
    shutil.copy(federation.site("site-3") / "startup/rootCA.pem", stranger.startup)  # it believes in the server
    with pytest.raises(CertificateError, match="does not accept"):
        greet(stranger)
    federation.kill("site-3")
    before = (federation.kits / "server" / "log.txt").read_text(encoding="utf-8").count("New client site-3@")
    assert before > 0
    federation.start(
        "stranger",
        "medseg.federated.kits.site_process",
        str(stranger.root),
        "--name",
        "site-3",
        "--organisation",
        "hospital_3",
    )
    log = stranger.root / "log.txt"
    wait_for(lambda: "registered aux handler" in log.read_text(encoding="utf-8"))
    time.sleep(10)  # one of this project has registered two seconds later
    assert "Successfully registered" not in log.read_text(encoding="utf-8")
    server = (federation.kits / "server" / "log.txt").read_text(encoding="utf-8")
    assert server.count("New client site-3@") == before
    federation.kill("stranger")


def test_a_member_looks_on_and_submits_nothing(federation):
    member = replace(read_kit(federation.lead), root=federation.kits / "admins" / "member@example.org").root
    told = {}
    for words in (["status", str(member)], ["submit", str(member), str(federation.bundle), "-n", "mine"]):
        done = subprocess.run(
            [sys.executable, "-m", "medseg", "federate", *words],
            cwd=federation.root, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        told[words[0]] = (done.returncode, done.stderr)
    assert told["status"][0] == 0
    assert told["submit"][0] == 2
    assert "MS-J066" in told["submit"][1]


def test_nothing_planted_in_images_is_outside_the_sites(federation):
    """Last: over all that the jobs above left at the server and with the lead."""
    if not (federation.kits / "server" / "medseg_results").exists():  # where the others ran elsewhere
        assert ended(federation.submitted("planted"))[0] == 0
    planted = (NAME.encode(), BYTES, VOXELS.tobytes(), VOXELS.astype(">f4").tobytes())
    looked = 0
    for folder in (federation.kits / "server", federation.lead, federation.root / "server.txt"):
        for path in [folder] if folder.is_file() else [one for one in folder.rglob("*") if one.is_file()]:
            content = path.read_bytes()
            looked += 1
            assert not [what for what in planted if what in content], path
            assert NAME not in path.name
    assert looked > 30
    import gzip

    for path in (federation.root / "scans-1" / "imagesTr").iterdir():  # the search would find it where it is
        content = gzip.decompress(path.read_bytes())
        assert BYTES in content
        assert VOXELS.tobytes() in content
        assert NAME in path.name
