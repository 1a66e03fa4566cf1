"""The server's side of encrypted updates: what it asks, what it refuses without reading, what it keeps."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from medseg.errors import InputError, UsageError
from medseg.federated.algorithm import Algorithm, ServerOptimiser, load_algorithm
from medseg.federated.exchange import CASES, METRICS, Update, state_to_dxo
from medseg.federated.privacy.encryption import EncryptionError, make_keys
from medseg.federated.privacy.packing import LAYOUT
from medseg.federated.privacy.sealing import KEY, LENGTHS, MOST, PER_CASE, SHARE, key_id, opened, sealed, share_of
from medseg.federated.sealed_sums import SealedSums, require_possible
from medseg.federated.server_state import ServerState, load_state, save_state

needs_tenseal = pytest.mark.skipif(
    importlib.util.find_spec("tenseal") is None, reason='no tenseal (pip install "medseg[encrypted]")'
)
SENT = {"b": torch.tensor([1.0, 2.0]), "a": torch.zeros(2, 3)}
LAYOUT_SAID = [["a", [2, 3]], ["b", [2]]]


@pytest.fixture(scope="module")
def keys():
    return make_keys()


@pytest.fixture
def sums():
    """Three sites with 80, 10 and 10 cases and a held-out one, before the first round."""
    found = SealedSums(Algorithm("test", share_cap=0.5), SENT)
    found.count({"a": 80, "b": 10, "c": 10, "t": 0})
    found.message(found.begin(), training=True)
    return found


def update(key: bytes, cases: int, share: float, **changes):
    state = {name: value + 1.0 for name, value in SENT.items()}
    meta = {CASES: cases, SHARE: share, KEY: key_id(key), METRICS: {"loss": 0.5}, "NUM_STEPS_CURRENT_ROUND": 3}
    return state_to_dxo(sealed(state, share, key), **{**meta, **changes})


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (load_algorithm("scaffold"), "SCAFFOLD"),
        (load_algorithm("fedopt"), "adam"),
        (Algorithm("half", server=ServerOptimiser(learning_rate=0.5)), "rate 0.5"),
    ],
)
def test_what_a_server_must_read_for_is_refused(how, why):
    with pytest.raises(UsageError, match=rf"MS-J144[\s\S]*{why}"):
        require_possible(how)
    with pytest.raises(UsageError, match="MS-J144"):
        SealedSums(how, SENT)


@pytest.mark.parametrize("name", ["fedavg", "fedprox"])
def test_what_goes_together(name):
    require_possible(load_algorithm(name))


def test_what_is_asked_of_sites_names_none_of_them(sums):
    state, meta = sums.message(sums.begin(), training=True)
    assert state is sums.sent
    assert meta == {PER_CASE: 0.025, MOST: 0.5}
    assert sums.message(sums.begin(), training=False)[1] == {}
    assert sums.unknown(("a", "t", "new")) == ["new"]


@needs_tenseal
def test_a_round(sums, keys, tmp_path):
    updates = {"a": sums.update_of(update(keys.sites, 80, 0.5)), "b": sums.update_of(update(keys.sites, 10, 0.25))}
    assert (updates["a"].cases, updates["a"].steps, updates["a"].metrics) == (80, 3, {"loss": 0.5})
    share = sums.shares(updates)  # the third is missing
    assert share == {"a": pytest.approx(2 / 3), "b": pytest.approx(1 / 3)}
    after, row = sums.after(sums.begin(), updates, share, 3)
    assert (after.rounds, row) == (1, {})
    save_state(tmp_path, after)
    again = load_state(tmp_path)
    assert again.said == {KEY: key_id(keys.sites), SHARE: "0.75"}
    sums.require_fitting(again, tmp_path)
    state, meta = sums.message(again, training=False)
    assert meta == {KEY: key_id(keys.sites), SHARE: 0.75, LAYOUT: LAYOUT_SAID}
    found = opened(state, meta[SHARE], [(name, tuple(shape)) for name, shape in LAYOUT_SAID], keys.sites)
    assert all(float((found[name] - value - 1.0).abs().max()) < 1e-6 for name, value in SENT.items())


@needs_tenseal
def test_what_is_refused_without_reading(sums, keys):
    good = update(keys.sites, 80, 0.5)
    assert sums.update_of(good).cases == 80
    short = dict(good.data)
    short[LENGTHS] = short[LENGTHS][:0]
    junk = {**good.data, "medseg_ciphertexts": torch.zeros_like(good.data["medseg_ciphertexts"])}
    for code, dxo in (
        ("MS-J145", state_to_dxo(SENT, **{CASES: 80})),
        ("MS-J146", state_to_dxo(SENT, **good.meta)),
        ("MS-J146", state_to_dxo(short, **good.meta)),
        ("MS-J142", state_to_dxo(junk, **good.meta)),
        ("MS-J146", update(keys.sites, 80, 0.4)),  # weighed by more than it may, or by less
        ("MS-J146", update(keys.sites, 80, 0.5, **{CASES: -80})),
        ("MS-J146", update(keys.sites, 80, 0.5, **{CASES: True})),
    ):
        with pytest.raises(EncryptionError, match=code):
            sums.update_of(dxo)


@needs_tenseal
def test_a_state_of_another_network_is_refused(sums, keys, tmp_path):
    large = sealed({"a": torch.zeros(5000)}, 1.0, keys.sites)
    for state in (ServerState(1, {"x": torch.zeros(2)}), ServerState(1, large, said={KEY: "k", SHARE: "1.0"})):
        with pytest.raises(InputError, match="MS-J016"):
            sums.require_fitting(state, tmp_path)


@needs_tenseal
def test_a_state_of_an_algorithm_whose_server_reads_is_refused(sums, tmp_path):
    for more in ({"control": SENT}, {"moments": SENT}):
        with pytest.raises(InputError, match=r"MS-J016[\s\S]*another algorithm"):
            sums.require_fitting(ServerState(1, SENT, **more), tmp_path)


@needs_tenseal
def test_the_key_that_most_sites_have_is_used_whoever_answers_first(keys):
    found = SealedSums(Algorithm("test"), SENT)
    found.count({"a": 20, "b": 20, "c": 20})
    _, meta = found.message(found.begin(), training=True)
    share = share_of(20, meta[PER_CASE], meta[MOST])
    other = make_keys().sites
    updates = {site: found.update_of(update(key, 20, share)) for site, key in (("a", other), ("b", keys.sites), ("c", keys.sites))}  # fmt: skip
    refused = found.of_another_key(updates)
    assert list(refused) == ["a"]
    assert refused["a"].code == "MS-J143"
    assert key_id(other) in refused["a"].what
    assert key_id(keys.sites) in refused["a"].what
    kept = {site: updates[site] for site in "bc"}
    after, _ = found.after(found.begin(), kept, found.shares(kept), 3)
    assert after.said[KEY] == key_id(keys.sites)
    found.message(after, training=True)  # from now on it is known when it comes
    with pytest.raises(EncryptionError, match="MS-J143"):
        found.update_of(update(other, 20, share))
    assert found.of_another_key(kept) == {}


@pytest.mark.parametrize(
    ("cases", "held", "used"),
    [
        ({"a": 9, "b": 1, "c": 1}, "xyy", "y"),  # most sites
        ({"a": 1, "b": 9}, "xy", "y"),  # of equals, most cases
        ({"b": 5, "a": 5}, "yx", "x"),  # of those, the first site by name
        ({}, "", ""),
    ],
)
def test_which_of_several_keys_is_used(cases, held, used):
    found = SealedSums(Algorithm("test"), SENT)
    found.message(found.begin(), training=True)
    updates = {site: Update({}, n, 1, key=key) for (site, n), key in zip(cases.items(), held, strict=True)}
    assert set(found.of_another_key(updates)) == {site for site, one in updates.items() if one.key != used}
