"""Hospitals train together over gRPC with mutual TLS on scans that hold a planted pattern and name; a third one's scan is
damaged, so that its error speaks of the file. All that any process sends is recorded; neither is in anything that left.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nvflare", reason='no NVFLARE (pip install "medseg[federated]")')

from tests.federated.federation import ended, federated
from tests.federated.privacy import planted

pytestmark = [
    pytest.mark.slow,
    pytest.mark.endurance,
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]

HERE = Path(__file__).parent
SITES = ("site-1", "site-2", "site-3")


@pytest.fixture(scope="module")
def ran(tmp_path_factory, small_recipe, cubes):
    """Server and three sites after one training; what they sent lies in root/sent."""
    root, data = tmp_path_factory.mktemp("planted"), {}
    for n, name in enumerate(SITES):
        data[name] = cubes(root / f"scans-{n}", range(10 * n, 10 * n + 4), prefix=f"{planted.NAME}_{n}")
        for image in sorted((data[name] / "imagesTr").iterdir()):
            planted.plant(image)
            if name == "site-3":
                image.write_bytes(image.read_bytes()[:1000])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE / "recorder"), prepend=os.pathsep)
        patch.setenv("MEDSEG_RECORD", str(root / "sent"))
        with federated(root, small_recipe, data) as found:
            code, job, told = ended(found.submitted("planted", steps=2))
            assert code == 0, told
            (root / "told.txt").write_text(json.dumps(job) + told, encoding="utf-8")
            yield found


def test_inside_the_sites_both_are_there(ran):
    """So that a search which finds nothing outside means something."""
    for n in range(2):
        hits = {what for _, what in planted.found_below(ran.root / f"scans-{n}", planted.needles())}
        assert {"pattern as <i2", "name as utf-8"} <= hits
    log = ran.site("site-3")
    assert any(what == "name as utf-8" for _, what in planted.found_below(log, planted.needles()))


def test_the_damaged_site_failed_and_the_server_heard_no_more_than_that(ran):
    rows = ran.rounds("planted")
    assert [rows[0]["sites"][name]["outcome"] for name in SITES] == ["used", "used", "failed"]
    assert "could not do its part" in (ran.root / "told.txt").read_text(encoding="utf-8")


def test_no_message_holds_them(ran):
    sent = ran.root / "sent"
    said = {path.name: path.read_bytes() for path in sent.iterdir()}
    for name in SITES:  # every site's own process, and the one of its job
        of_site = [data for file, data in said.items() if name in file]
        assert len(of_site) >= 2, sorted(said)
    updates = [data for file, data in said.items() if b"medseg_cases" in data]
    assert len(updates) >= 2
    assert planted.found_below(sent, planted.needles()) == set()


def test_neither_the_server_with_its_job_store_and_logs_nor_the_coordinator_holds_them(ran):
    places = [ran.kits / "server", ran.lead, ran.kits / "authority", ran.root / "told.txt", ran.root / "server.txt"]
    for place in places:
        assert planted.found_below(place, planted.needles()) == set()
    names = {path.name for path in (ran.kits / "server").rglob("*") if path.is_file()}
    assert {"log.txt", "rounds.jsonl", "meta"} <= names  # logs, results and the job store were among them


def test_every_site_wrote_down_what_left(ran):
    done = subprocess.run(
        [sys.executable, "-m", "medseg", "federate", "audit", str(ran.kits / "sites"), "--json"],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    audits = {Path(one["path"]).parent.name: one for one in json.loads(done.stdout)}
    assert set(audits) == set(SITES)
    for name in ("site-1", "site-2"):
        rows = audits[name]["rows"]
        assert [(row["task"], row["verdict"]) for row in rows] == [("train", "sent")] * 2 + [("validate", "sent")]
        assert {row["kind"] for row in rows[:2]} == {"WEIGHT_DIFF"}
        assert rows[0]["scalars"]["medseg_cases"] == 3
    assert {row["verdict"] for row in audits["site-3"]["rows"]} == {"no result"}
