"""Encrypted updates over real gRPC with mutual TLS: a server and three sites, each a process of its own.

That the arithmetic is right and what is refused, test_encrypted_rounds.py says.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from medseg.bundle.weights import read_weights
from medseg.federated.privacy.encryption import decrypted
from medseg.federated.privacy.sealing import KEY_FILE, checked
from medseg.federated.server_state import load_state
from medseg.training.checkpoint_file import latest_sound
from tests.federated.federation import ended, federated

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
    pytest.mark.skipif(find_spec("tenseal") is None, reason='no tenseal (pip install "medseg[encrypted]")'),
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory, small_recipe, cubes):
    """After a training of two rounds."""
    root = tmp_path_factory.mktemp("sealed")
    data = {f"site-{n}": cubes(root / f"scans-{n}", range(10 * n, 10 * n + 4 + n)) for n in (1, 2, 3)}
    with federated(root, small_recipe, data, more="privacy: he\n") as found:
        code, job, told = ended(found.submitted("sealed", steps=2))
        assert code == 0, told
        assert job["status"] == "FINISHED:COMPLETED"
        yield found


def flat(state):
    return np.concatenate([state[name].double().numpy().ravel() for name in sorted(state)])


def trained(federation, name):
    """A site's own weights after the last round, which no other has."""
    _, kept = latest_sound(federation.site(name) / "medseg_work" / "sealed" / "models")
    return flat(kept["parts"]["model"])


def given(federation, name):
    """The global model as its site has it, a bundle of half precision."""
    return read_weights(federation.site(name) / "medseg_work" / "sealed" / "global" / "models" / "model.safetensors")


def test_with_the_sites_key_what_the_server_holds_is_the_mean_of_what_the_sites_trained(ran):
    rows = ran.rounds("sealed")
    assert [[one["outcome"] for one in row["sites"].values()] for row in rows[:2]] == [["used"] * 3] * 2
    shares = {name: one["share"] for name, one in rows[1]["sites"].items()}
    mean = sum(share * trained(ran, name) for name, share in shares.items())
    key = (ran.site("site-1") / "local" / KEY_FILE).read_bytes()
    state = load_state(ran.kits / "server" / "medseg_results" / "sealed")
    total = sum(value.numel() for value in given(ran, "site-1").values())
    opened = decrypted(checked(state.state, total), key, total) / float(state.said["medseg_share"])
    assert np.abs(opened - mean).max() < 1e-6
    for name in ran.data:
        np.testing.assert_allclose(flat(given(ran, name)), opened, rtol=2**-10, atol=2**-24)


def test_the_server_and_the_lead_hold_neither_the_key_nor_the_model(ran):
    (key,) = {(ran.site(name) / "local" / KEY_FILE).read_bytes() for name in ran.data}
    whole = latest_sound(ran.site("site-1") / "medseg_work" / "sealed" / "models")[1]["parts"]["model"]
    biggest = (max(state.values(), key=lambda one: one.numel()) for state in (given(ran, "site-1"), whole))
    looked_for = [key[:200], *(one.numpy().ravel()[:16].tobytes() for one in biggest)]
    files = [path for place in (ran.kits / "server", ran.lead) for path in place.rglob("*") if path.is_file()]
    assert len(files) > 30
    assert not [path for path in files if path.name.startswith("model.")]
    for path in files:
        held = path.read_bytes()
        assert not [what for what in looked_for if what in held], path


def test_the_sites_own_audits_say_that_ciphertexts_left(ran):
    for name in ran.data:
        lines = (ran.site(name) / "audit.jsonl").read_text(encoding="utf-8").splitlines()
        train = [row for row in map(json.loads, lines) if row["task"] == "train"]
        assert [(row["verdict"], row["types"]) for row in train] == [("sent", ["ckks"])] * 2
