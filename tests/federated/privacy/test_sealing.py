"""Sealed tables: the weighted mean of what is in them, opened with the key alone; what is no such table is refused."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.federated.aggregation import shares, weighing
from medseg.federated.privacy.encryption import SLOTS, EncryptionError, make_keys
from medseg.federated.privacy.packing import flatten
from medseg.federated.privacy.sealing import (
    CIPHERTEXTS,
    KEY_FILE,
    LENGTHS,
    checked,
    key_id,
    opened,
    read_key,
    require_ciphertexts,
    sealed,
    share_of,
    sum_of,
)

needs_tenseal = pytest.mark.skipif(
    importlib.util.find_spec("tenseal") is None, reason='no tenseal (pip install "medseg[encrypted]")'
)
SHAPES = {"b": (3, 5), "a": (2 * SLOTS + 7,), "one": ()}
TOTAL = 15 + 2 * SLOTS + 7 + 1


@pytest.fixture(scope="module")
def keys():
    return make_keys()


def weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


@needs_tenseal
def test_the_sum_of_three_opens_to_their_weighted_mean(keys):
    cases = {"north": 80, "east": 12, "south": 5}
    per_case, most = weighing(cases, 0.6)
    states = {site: weights(n) for n, site in enumerate(cases)}
    tables = [sealed(state, share_of(cases[site], per_case, most), keys.sites) for site, state in states.items()]
    found = opened(sum_of(tables, TOTAL), 1.0, flatten(weights(0))[1], keys.sites)
    share = shares(cases, 0.6)
    for name, shape in SHAPES.items():
        wanted = sum(share[site] * state[name].double() for site, state in states.items())
        assert found[name].shape == shape
        assert float((found[name].double() - wanted).abs().max()) < 1e-6
    two = opened(sum_of(tables[1:], TOTAL), share["east"] + share["south"], flatten(weights(0))[1], keys.sites)
    wanted = (share["east"] * states["east"]["a"] + share["south"] * states["south"]["a"]) / (
        share["east"] + share["south"]
    )
    assert float((two["a"] - wanted).abs().max()) < 1e-6


@needs_tenseal
def test_nobody_opens_it_without_the_key(keys):
    table = sealed(weights(0), 1.0, keys.sites)
    layout = flatten(weights(0))[1]
    with pytest.raises(EncryptionError, match="MS-J141"):
        opened(table, 1.0, layout, keys.server)
    guess = opened(table, 1.0, layout, make_keys().sites)
    assert float((guess["a"] - weights(0)["a"]).abs().max()) > 1
    assert weights(0)["a"][:8].numpy().tobytes() not in table[CIPHERTEXTS].numpy().tobytes()


@needs_tenseal
def test_a_key_is_told_by_a_digest_that_holds_nothing_of_it(keys):
    assert key_id(keys.sites) == key_id(bytes(keys.sites)) != key_id(make_keys().sites)
    assert len(key_id(keys.sites)) == 16
    assert bytes.fromhex(key_id(keys.sites)) not in keys.sites


def test_a_site_without_a_key_is_told_where_it_belongs(tmp_path):
    with pytest.raises(EncryptionError, match=rf"MS-J143[\s\S]*local/{KEY_FILE}"):
        read_key(tmp_path / KEY_FILE)


def fake(lengths: list[int], **changes) -> dict:
    table = {
        CIPHERTEXTS: torch.zeros(sum(lengths), dtype=torch.uint8),
        LENGTHS: torch.tensor(lengths, dtype=torch.int32),
    }
    return {**table, **changes}


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({}, "none"),
        ({"image": torch.zeros(3)}, "image"),
        ({**fake([4]), "more": 1}, "more"),
        ({CIPHERTEXTS: b"x", LENGTHS: [1]}, "no tensors"),
        (fake([4], **{CIPHERTEXTS: torch.zeros(4)}), "float32"),
        (fake([4], **{LENGTHS: torch.tensor([[4]], dtype=torch.int32)}), "2 axes"),
        (fake([4, 4]), "2 ciphertexts for 10 numbers"),
        (fake([]), "0 ciphertexts"),
        (fake([4], **{LENGTHS: torch.tensor([3], dtype=torch.int32)}), "not as long"),
        (fake([4], **{LENGTHS: torch.tensor([-4], dtype=torch.int32)}), "not as long"),
    ],
)
def test_what_is_no_sealed_table_is_refused(table, why):
    with pytest.raises(EncryptionError, match=rf"MS-J146[\s\S]*{why}"):
        checked(table, 10)


@needs_tenseal
def test_bytes_that_are_no_ciphertext_are_refused():
    with pytest.raises(EncryptionError, match="MS-J142"):
        require_ciphertexts(fake([100]), 10)


@needs_tenseal
def test_a_ciphertext_of_another_scale_is_told_before_it_is_added(keys):
    import tenseal as ts

    odd = ts.ckks_vector(ts.context_from(keys.sites), [0.1] * SLOTS, 2.0**30).serialize()
    data = torch.frombuffer(bytearray(odd), dtype=torch.uint8)
    with pytest.raises(EncryptionError, match="MS-J142"):
        require_ciphertexts({CIPHERTEXTS: data, LENGTHS: torch.tensor([len(odd)], dtype=torch.int32)}, 10)


@given(
    st.lists(st.integers(1, 5000), min_size=1, max_size=8),
    st.floats(0.05, 1.0),
)
@settings(max_examples=200)
def test_what_each_site_weighs_by_is_its_share(counts, cap):
    cases = {str(n): count for n, count in enumerate(counts)}
    per_case, most = weighing(cases, cap)
    found = {site: share_of(count, per_case, most) for site, count in cases.items()}
    assert found == shares(cases, cap)
    assert math.isclose(math.fsum(found.values()), 1.0, rel_tol=1e-9)
    assert max(found.values()) <= max(cap, 1 / len(cases)) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("per_case", "most"),
    [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (2.0, 3.0), (math.nan, 1.0), (1, 1.0), ("1", 1.0), (1.0, None)],
)
def test_what_is_no_share_is_refused(per_case, most):
    with pytest.raises(EncryptionError, match="MS-J146"):
        share_of(2, per_case, most)
