"""What the filter opens as NVFLARE calls it, and what it leaves alone."""

from __future__ import annotations

import importlib.util

import pytest
import torch

pytest.importorskip("nvflare", reason='no NVFLARE (pip install "medseg[federated]")')

from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.shareable import make_reply

from medseg.federated.exchange import state_to_dxo
from medseg.federated.privacy.encryption import EncryptionError, make_keys
from medseg.federated.privacy.opening_filter import ASKED, OpenFilter
from medseg.federated.privacy.packing import LAYOUT
from medseg.federated.privacy.sealing import KEY, KEY_FILE, MOST, PER_CASE, SHARE, key_id, sealed

needs_tenseal = pytest.mark.skipif(
    importlib.util.find_spec("tenseal") is None, reason='no tenseal (pip install "medseg[encrypted]")'
)
STATE = {"a": torch.arange(6.0).reshape(2, 3)}


@needs_tenseal
def test_the_site_sees_weights_and_the_audit_what_was_asked(site, context):
    key = make_keys().sites
    (site / "local" / KEY_FILE).write_bytes(key)
    meta = {KEY: key_id(key), SHARE: 0.5, LAYOUT: [["a", [2, 3]]], PER_CASE: 0.1, MOST: 1.0}
    message = state_to_dxo(sealed(STATE, 0.5, key), **meta).to_shareable()
    found = from_shareable(OpenFilter().process(message, context))
    assert found.data_kind == DataKind.WEIGHTS
    assert float((found.data["a"] - STATE["a"]).abs().max()) < 1e-6
    asked = context.get_prop(ASKED)
    assert (asked.per_case, asked.most) == (0.1, 1.0)
    assert ASKED not in context.get_all_public_props()


def test_weights_without_a_key_are_refused_and_other_messages_pass(site, context):
    with pytest.raises(EncryptionError, match="MS-J143"):
        OpenFilter().process(state_to_dxo(STATE).to_shareable(), context)
    for message in (DXO(DataKind.METRICS, data={"dice": 1.0}).to_shareable(), make_reply(ReturnCode.TASK_ABORTED)):
        assert OpenFilter().process(message, context) is message
    context.set_prop(FLContextKey.WORKSPACE_OBJECT, None, private=True)
    with pytest.raises(EncryptionError, match="MS-J143"):
        OpenFilter().process(state_to_dxo(STATE).to_shareable(), context)
