"""Sites train together on scans that hold a planted pattern and name; neither is found in anything that left a site."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("nvflare", reason='no NVFLARE (pip install "medseg[federated]")')

HERE = Path(__file__).parent


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


planted = load("planted")


@pytest.fixture(scope="module")
def ran(small_recipe, cubes, tmp_path_factory):
    """The output of a simulation of two sites, and all that its processes sent."""
    root = tmp_path_factory.mktemp("planted")
    lines = ["sites:"]
    for n in range(2):
        data = cubes(root / f"data-{n}", range(4 * n, 4 * n + 4), prefix=f"{planted.NAME}_{n}")
        for image in sorted((data / "imagesTr").iterdir()):
            planted.plant(image)
        lines.append(f"  - {{name: hospital-{n}, data: {data}}}")
    (root / "sites.yaml").write_text("\n".join(lines))
    env = {**os.environ, "PYTHONPATH": str(HERE / "recorder"), "MEDSEG_RECORD": str(root / "sent")}
    words = ["federate", "simulate", str(small_recipe), "--sites", str(root / "sites.yaml"), "-o", str(root / "out")]
    words += ["--rounds", "2", "--local-steps", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "medseg", *words], env=env, capture_output=True, text=True, timeout=550, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root


def test_what_was_planted_is_in_the_sites_and_the_search_finds_it(ran):
    hits = planted.found_below(ran / "data-0", planted.needles())
    assert {what.split(",")[0] for _, what in hits} >= {"pattern as <i2", "name as utf-8"}


def test_no_message_holds_it(ran):
    sent = sorted((ran / "sent").iterdir())
    data = b"".join(path.read_bytes() for path in sent)
    assert len(sent) >= 3  # the server's process and one for each site
    assert b"NUM_STEPS_CURRENT_ROUND" in data  # updates are among what was recorded
    assert planted.found_below(ran / "sent", planted.needles()) == set()


def test_neither_the_server_nor_the_job_nor_the_results_hold_it(ran):
    out = ran / "out"
    for place in (out / "work" / "server", out / "work" / "jobs", out / "work" / "nvflare" / "server", out / "global"):
        assert any(path.is_file() for path in place.rglob("*")), place
        assert planted.found_below(place, planted.needles()) == set()
    assert planted.found_below(out / "rounds.jsonl", planted.needles()) == set()
