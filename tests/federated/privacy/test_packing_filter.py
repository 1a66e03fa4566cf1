"""Packing as NVFLARE runs it: it remembers per job what it did not send."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("nvflare", reason='no NVFLARE (pip install "medseg[federated]")')

from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_constant import ReservedKey, ReturnCode
from nvflare.apis.shareable import make_reply

from medseg.federated.privacy.packing import PackingError, unpack
from medseg.federated.privacy.packing_filter import PackFilter


def sent(made, context, update):
    message = made.process(DXO(DataKind.WEIGHT_DIFF, data=update, meta={"medseg_cases": 4}).to_shareable(), context)
    assert message["DXO"]["meta"]["medseg_cases"] == 4
    return unpack(message["DXO"]["data"], message["DXO"]["meta"])["a"]


def test_what_was_not_sent_comes_with_the_next_round(context):
    made = PackFilter("top_k", keep=0.25)
    first = sent(made, context, {"a": torch.tensor([5.0, 1.0, 3.0, 2.0])})
    second = sent(made, context, {"a": torch.tensor([0.0, 1.0, 0.5, 2.0])})
    assert first.tolist() == [5, 0, 0, 0]
    assert second.tolist() == [0, 0, 0, 4]


def test_without_feedback_nothing_is_kept(context):
    made = PackFilter("top_k", keep=0.25, feedback=False)
    sent(made, context, {"a": torch.tensor([5.0, 1.0, 3.0, 2.0])})
    assert sent(made, context, {"a": torch.tensor([0.0, 1.0, 0.5, 2.0])}).tolist() == [0, 0, 0, 2]


def test_another_job_begins_with_nothing_kept(context):
    made = PackFilter("top_k", keep=0.5)
    sent(made, context, {"a": torch.tensor([5.0, 1.0])})
    context.set_prop(ReservedKey.RUN_NUM, "job-2", private=False)
    assert sent(made, context, {"a": torch.tensor([0.5, 1.0])}).tolist() == [0, 1]


def test_half_precision(context):
    assert sent(PackFilter("fp16"), context, {"a": torch.tensor([1 / 3])})[0] == torch.tensor(1 / 3).half().float()


def test_scores_and_errors_pass(context):
    scores = DXO(DataKind.METRICS, data={"loss": 1 / 3}).to_shareable()
    assert PackFilter("fp16").process(scores, context)["DXO"]["data"] == {"loss": 1 / 3}
    reply = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    assert PackFilter("fp16").process(reply, context) is reply


def test_control_variates_do_not_fit_top_k(context):
    update = {"a": torch.ones(2), "control/a": torch.ones(2)}
    with pytest.raises(PackingError, match="MS-J131"):
        sent(PackFilter("top_k"), context, update)
    assert sent(PackFilter("fp16"), context, update).tolist() == [1, 1]
