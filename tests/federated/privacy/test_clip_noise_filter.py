"""Clipping and noise as NVFLARE runs them, and the ledger that stops a site in time."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("nvflare", reason='no NVFLARE (pip install "medseg[federated]")')

from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import make_reply

from medseg.federated.privacy.accountant import spent
from medseg.federated.privacy.allow_list import OutgoingError
from medseg.federated.privacy.clip_noise import ClipError, norm
from medseg.federated.privacy.clip_noise_filter import ClipNoiseFilter
from medseg.federated.privacy.ledger import LEDGER, multipliers_of


def data_of(shareable):
    return shareable["DXO"]["data"]


def test_an_update_is_clipped(context, update, site):
    before = norm(update.data)
    out = data_of(ClipNoiseFilter(before / 2).process(update.to_shareable(), context))
    assert norm(out) == pytest.approx(before / 2, rel=1e-5)
    assert norm(out) <= before / 2
    assert not (site / LEDGER).exists()


def test_the_noise_is_as_strong_as_was_said_and_new_every_time(context):
    zeros = {"a": torch.zeros(200, 300)}
    made = ClipNoiseFilter(2.0, noise_multiplier=0.25)
    first, second = (
        data_of(made.process(DXO(DataKind.WEIGHT_DIFF, data=dict(zeros)).to_shareable(), context))["a"]
        for _ in range(2)
    )
    assert float(first.std()) == pytest.approx(0.5, rel=0.02)  # 60,000 values: 7 standard errors
    assert not torch.equal(first, second)


def test_every_release_is_written_down_and_the_last_one_too_many_is_refused(context, update, site):
    allowed = spent([8.0] * 3, 1e-5).epsilon * 1.001
    made = ClipNoiseFilter(1.0, noise_multiplier=8.0, delta=1e-5, max_epsilon=allowed)
    for _ in range(3):
        made.process(update.to_shareable(), context)
    with pytest.raises(OutgoingError, match=r"MS-J121 [\s\S]*update 4 would make it epsilon"):
        made.process(update.to_shareable(), context)
    rows = [json.loads(line) for line in (site / LEDGER).read_text().splitlines()]
    assert [(row["job"], row["clip"], row["multiplier"]) for row in rows] == [("job-1", 1.0, 8.0)] * 3
    # A restart, or another job, does not make a site forget.
    with pytest.raises(OutgoingError, match="MS-J121"):
        ClipNoiseFilter(1.0, noise_multiplier=8.0, max_epsilon=allowed).process(update.to_shareable(), context)


@pytest.mark.parametrize("damage", ['{"job": 1}\n', "half a li", '{"multiplier": "much"}\n', "[]\n"])
def test_a_ledger_that_cannot_be_read_stops_the_site(context, update, site, damage):
    (site / LEDGER).write_text(damage)
    with pytest.raises(OutgoingError, match="MS-J122"):
        ClipNoiseFilter(1.0, noise_multiplier=8.0).process(update.to_shareable(), context)
    with pytest.raises(OutgoingError, match="MS-J122"):
        multipliers_of(site / LEDGER)


def test_a_ledger_that_cannot_be_written_stops_the_site(context, update, site):
    made = ClipNoiseFilter(1.0, noise_multiplier=8.0, ledger="local/medseg_outgoing.json/spent.jsonl")
    with pytest.raises(OutgoingError, match="MS-J119"):
        made.process(update.to_shareable(), context)


@pytest.mark.parametrize(
    "dxo",
    [
        DXO(DataKind.WEIGHTS, data={"a": torch.ones(2)}),
        DXO(DataKind.WEIGHT_DIFF, data={"a": torch.tensor([float("nan")])}),
        DXO(DataKind.WEIGHT_DIFF, data={"a": torch.ones(2, dtype=torch.int32)}),
        DXO(DataKind.WEIGHT_DIFF, data={"a": [1.0]}),
    ],
)
def test_what_clipping_cannot_protect_is_refused(context, dxo):
    with pytest.raises(ClipError, match="MS-J120"):
        ClipNoiseFilter(1.0).process(dxo.to_shareable(), context)


def test_scores_and_errors_pass_for_the_audit_to_judge(context):
    made = ClipNoiseFilter(1.0, noise_multiplier=1.0)
    assert data_of(made.process(DXO(DataKind.METRICS, data={"loss": 9.0}).to_shareable(), context)) == {"loss": 9.0}
    reply = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    assert made.process(reply, context) is reply


@pytest.mark.parametrize(("clip", "noise"), [(0.0, 0.0), (-1.0, 0.0), (1.0, -0.1), (float("nan"), 0.0)])
def test_numbers_that_mean_nothing_are_refused_when_a_site_starts(clip, noise):
    with pytest.raises(ValueError, match="clip_norm"):
        ClipNoiseFilter(clip, noise)
