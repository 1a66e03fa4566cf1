"""A site's ends of an encrypted round: what came is opened, what leaves is what came plus the update, weighed."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from medseg.federated.exchange import CASES
from medseg.federated.privacy.encryption import EncryptionError, make_keys
from medseg.federated.privacy.outgoing import Outgoing
from medseg.federated.privacy.packing import LAYOUT, flatten
from medseg.federated.privacy.sealed_exchange import Asked, asked_by, sealed_outgoing
from medseg.federated.privacy.sealing import KEY, MOST, PER_CASE, SHARE, key_id, opened, sealed

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tenseal") is None, reason='no tenseal (pip install "medseg[encrypted]")'
)
BEFORE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([-1.0, 0.5])}
LAYOUT_SAID = [["a", [2, 3]], ["b", [2]]]


@pytest.fixture(scope="module")
def keys():
    return make_keys()


def update(**changes) -> Outgoing:
    diff = {"a": torch.full((2, 3), 0.25), "b": torch.tensor([1.0, 2.0])}
    return Outgoing("WEIGHT_DIFF", {**diff, **changes}, {CASES: 4}, {"norm": 2.0, "types": ["float32"], "bytes": 32})


def test_before_the_first_round_weights_come_as_they_are(keys):
    asked = asked_by(BEFORE, {PER_CASE: 0.1, MOST: 0.6}, keys.sites)
    assert asked == Asked(BEFORE, 0.1, 0.6)


def test_what_leaves_opens_to_the_weights_after_the_update(keys):
    out = sealed_outgoing(update(), Asked(BEFORE, 0.1, 0.6), keys.sites)
    assert out.kind == "WEIGHTS"
    assert out.meta == {CASES: 4, SHARE: 0.4, KEY: key_id(keys.sites)}
    assert (out.row["norm"], out.row["types"]) == (2.0, ["ckks"])
    assert out.row["bytes"] == sum(value.numel() * value.element_size() for value in out.data.values())
    found = opened(out.data, 0.4, flatten(BEFORE)[1], keys.sites)
    assert all(float((found[name] - BEFORE[name] - diff).abs().max()) < 1e-6 for name, diff in update().data.items())
    again = asked_by(out.data, {**out.meta, LAYOUT: LAYOUT_SAID}, keys.sites)
    assert again.per_case is None
    assert float((again.weights["b"] - torch.tensor([0.0, 2.5])).abs().max()) < 1e-6


def test_a_job_in_the_clear_gets_nothing(keys):
    for asked in (None, Asked(BEFORE), Asked({"a": BEFORE["a"]}, 0.1, 0.6)):
        with pytest.raises(EncryptionError, match="MS-J145"):
            sealed_outgoing(update(), asked, keys.sites)


def test_what_cannot_be_encrypted_does_not_leave(keys):
    with pytest.raises(EncryptionError, match="MS-J140"):
        sealed_outgoing(update(b=torch.tensor([1e3, 0.0])), Asked(BEFORE, 0.1, 0.6), keys.sites)
    with pytest.raises(EncryptionError, match="MS-J146"):
        sealed_outgoing(update(), Asked(BEFORE, "0.1", 0.6), keys.sites)


def test_what_comes_for_another_key_or_in_another_form_is_refused(keys):
    table = sealed(BEFORE, 1.0, keys.sites)
    said = {KEY: key_id(keys.sites), SHARE: 1.0, LAYOUT: LAYOUT_SAID}
    assert asked_by(table, said, keys.sites).weights.keys() == BEFORE.keys()
    for code, change in (
        ("MS-J143", {KEY: key_id(make_keys().sites)}),
        ("MS-J143", {KEY: None}),
        ("MS-J146", {LAYOUT: None}),
        ("MS-J146", {SHARE: None}),
        ("MS-J146", {SHARE: 0.0}),
        ("MS-J146", {LAYOUT: [["a", [5000]]]}),
    ):
        with pytest.raises(EncryptionError, match=code):
            asked_by(table, {**said, **change}, keys.sites)
