"""Encrypted sums: as the plain ones, and closed to the server."""

from __future__ import annotations

import importlib.util
import time

import numpy as np
import pytest

from medseg.errors import MissingExtraError
from medseg.federated.privacy import encryption
from medseg.federated.privacy.encryption import SLOTS, EncryptionError, added, decrypted, encrypted, make_keys

needs_tenseal = pytest.mark.skipif(
    importlib.util.find_spec("tenseal") is None, reason='no tenseal (pip install "medseg[encrypted]")'
)


@pytest.fixture(scope="module")
def keys():
    return make_keys()


def updates(sites: int, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (sites, n)).astype(np.float32)


@needs_tenseal
@pytest.mark.parametrize(("sites", "n"), [(1, 1), (2, SLOTS), (3, 3 * SLOTS + 17), (64, 40)])
def test_the_weighted_mean_is_the_plain_one(keys, sites, n):
    diffs, cases = updates(sites, n), np.arange(1, sites + 1) / 7
    parts = [encrypted(diff * share, keys.sites) for diff, share in zip(diffs, cases, strict=True)]
    found = decrypted(added(parts, keys.server), keys.sites, n) / cases.sum()
    plain = (diffs.astype(np.float64) * cases[:, None]).sum(0) / cases.sum()
    assert found.shape == (n,)
    assert np.abs(found - plain).max() < 1e-6


@needs_tenseal
def test_the_largest_numbers_do_not_wrap_around(keys):
    n, value = 16, encryption.LARGEST * 0.999
    parts = [encrypted(np.full(n, value), keys.sites)] * 64
    assert decrypted(added(parts, keys.server), keys.sites, n) == pytest.approx(np.full(n, 64 * value), rel=1e-9)


@needs_tenseal
def test_the_server_cannot_decrypt(keys):
    """Not by our function, not by tenseal, not with a key of its own; and the key it has holds no secret."""
    import tenseal as ts

    update = updates(1, 100)[0]
    chunks = encrypted(update, keys.sites)
    with pytest.raises(EncryptionError, match="MS-J141"):
        decrypted(chunks, keys.server, 100)
    context = ts.context_from(keys.server)
    assert not context.is_private()
    with pytest.raises(ValueError, match="Secret key"):
        context.secret_key()
    with pytest.raises(ValueError, match="secret_key"):
        ts.ckks_vector_from(context, chunks[0]).decrypt()
    other = make_keys()
    guess = np.asarray(
        ts.ckks_vector_from(ts.context_from(keys.server), chunks[0]).decrypt(ts.context_from(other.sites).secret_key())
    )
    assert abs(np.corrcoef(guess[:100], update)[0, 1]) < 0.5
    assert np.abs(guess[:100] - update).max() > 1
    assert len(keys.server) < 1000 < len(keys.sites)


@needs_tenseal
def test_the_server_cannot_encrypt_in_a_sites_name(keys):
    with pytest.raises(EncryptionError, match="MS-J141"):
        encrypted(updates(1, 4)[0], keys.server)


@needs_tenseal
def test_equal_updates_look_different_and_the_numbers_are_nowhere_in_the_bytes(keys):
    update = np.full(SLOTS, 0.125, np.float32)
    first, second = (encrypted(update, keys.sites)[0] for _ in range(2))
    assert first != second
    assert update[:4].tobytes() not in first
    assert update[:4].astype(np.float64).tobytes() not in first
    counts = np.bincount(np.frombuffer(first[200:-200], np.uint8), minlength=256)
    assert counts.max() < 1.5 * counts.mean()


@needs_tenseal
def test_size_and_time(keys, record_property):
    """7.5 times the bytes of float32; a million weights in seconds."""
    update = updates(1, 50 * SLOTS)[0]
    began = time.perf_counter()
    chunks = encrypted(update, keys.sites)
    took = time.perf_counter() - began
    ratio = sum(map(len, chunks)) / update.nbytes
    record_property("bytes_over_float32", ratio)
    record_property("seconds_for_a_million", took / update.size * 1e6)
    assert 7 < ratio < 8.1
    assert took / update.size * 1e6 < 60


@needs_tenseal
@pytest.mark.parametrize("values", [[], [np.nan], [np.inf], [encryption.LARGEST]])
def test_what_cannot_be_encrypted_is_refused(keys, values):
    with pytest.raises(EncryptionError, match="MS-J140"):
        encrypted(np.array(values), keys.sites)


@needs_tenseal
def test_what_is_no_ciphertext_or_key_is_refused(keys):
    chunks = encrypted(np.ones(3), keys.sites)
    for parts in ([], [[]], [chunks, chunks * 2], [[b"image"]], [[b""]]):
        with pytest.raises(EncryptionError, match="MS-J142"):
            added(parts, keys.server)
    with pytest.raises(EncryptionError, match="MS-J142"):
        decrypted(chunks, keys.sites, SLOTS + 1)
    with pytest.raises(EncryptionError, match="MS-J141"):
        encrypted(np.ones(3), b"no key")


@needs_tenseal
def test_a_ciphertext_of_another_scale_is_refused(keys):
    import tenseal as ts

    context = ts.context_from(keys.sites)
    sound = encrypted(np.ones(SLOTS), keys.sites)
    for scale in (2.0**30, 2.0**39):
        odd = [ts.ckks_vector(context, [0.1] * SLOTS, scale).serialize()]
        for parts in ([odd], [sound, odd]):
            with pytest.raises(EncryptionError, match=r"MS-J142[\s\S]*scale"):
                added(parts, keys.server)
        with pytest.raises(EncryptionError, match="MS-J142"):
            decrypted(odd, keys.sites, SLOTS)


@needs_tenseal
def test_what_cannot_be_added_is_refused_too(keys, monkeypatch):
    class Odd:
        def __add__(self, other):
            raise ValueError

    monkeypatch.setattr(encryption, "_vector", lambda chunk, context: Odd())
    with pytest.raises(EncryptionError, match="MS-J142"):
        added([[b"a"], [b"b"]], keys.server)


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setattr(encryption, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"MS-J102 [\s\S]*medseg\[encrypted\]"):
        make_keys()
