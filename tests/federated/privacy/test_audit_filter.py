"""The audit as NVFLARE runs it: on real messages, with the manifest written first, and closed whatever goes wrong."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("nvflare", reason='no NVFLARE (pip install "medseg[federated]")')

from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import FilterKey, FLContextKey, ReturnCode
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.utils.task_utils import apply_filters
from nvflare.private.privacy_manager import Scope

from medseg.federated.exchange import dxo_to_update
from medseg.federated.privacy.allow_list import FILE, OutgoingError
from medseg.federated.privacy.audit_filter import AuditFilter


def manifest(site) -> list[dict]:
    return [json.loads(line) for line in (site / "audit.jsonl").read_text().splitlines()]


def test_an_update_leaves_made_anew_and_is_written_down(site, context, update):
    message = update.to_shareable()
    message.set_header("note", "patient-0815")
    out = AuditFilter().process(message, context)
    found = dxo_to_update(from_shareable(out))
    assert all(torch.equal(found.diff[name], value) for name, value in update.data.items())
    assert (found.cases, found.steps, dict(found.metrics)) == (8, 20, {"loss": 0.5})
    assert b"0815" not in bytes(out.to_bytes())
    (row,) = manifest(site)
    assert row["time"].endswith("+00:00")
    assert {key: row[key] for key in ("job", "task", "verdict", "kind", "arrays", "bytes")} == {
        "job": "job-1",
        "task": "train",
        "verdict": "sent",
        "kind": "WEIGHT_DIFF",
        "arrays": 2,
        "bytes": 40,
    }
    assert row["scalars"]["loss"] == 0.5


@pytest.mark.parametrize("code", ["MS-J112", "MS-J116"])
def test_a_refusal_is_written_down_and_nothing_comes_back(site, context, update, code):
    if code == "MS-J112":
        update.data["image"] = torch.ones(3)
    else:
        update.meta["patient"] = "0815"
    with pytest.raises(OutgoingError, match=code):
        AuditFilter().process(update.to_shareable(), context)
    (row,) = manifest(site)
    assert (row["verdict"], row["code"]) == ("refused", code)
    assert "0815" not in json.dumps(row)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("DXO"),
        lambda s: s.update(image=b"0815"),
        lambda s: s.update(DXO=[1]),
        lambda s: s["DXO"].update(more=1),
        lambda s: s["DXO"].pop("meta"),
        lambda s: s["DXO"].update(kind="COLLECTION"),
        lambda s: s["DXO"].update(kind="APP_DEFINED"),
    ],
)
def test_what_is_no_message_of_medseg_is_refused(site, context, update, change):
    message = update.to_shareable()
    change(message)
    with pytest.raises(OutgoingError, match="MS-J111"):
        AuditFilter().process(message, context)
    assert [row["verdict"] for row in manifest(site)] == ["refused"]


def test_an_error_leaves_as_its_code_alone(site, context):
    reply = make_reply(ReturnCode.EXECUTION_EXCEPTION, headers={"__error__": "cannot read patient-0815.nii.gz"})
    reply["trace"] = "patient-0815"
    out = AuditFilter().process(reply, context)
    assert out.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert b"0815" not in bytes(out.to_bytes())
    reply.set_return_code("patient-0815")
    assert AuditFilter().process(reply, context).get_return_code() == ReturnCode.ERROR
    assert [row["verdict"] for row in manifest(site)] == ["no result", "no result"]


def test_without_a_list_or_with_a_damaged_one_nothing_leaves(site, context, update):
    for damage in ("{", '{"parameters": {}}', None):
        if damage is None:
            (site / "local" / FILE).unlink()
        else:
            (site / "local" / FILE).write_text(damage)
        with pytest.raises(OutgoingError, match="MS-J110"):
            AuditFilter().process(update.to_shareable(), context)
    assert [row["code"] for row in manifest(site)] == ["MS-J110"] * 3


def test_what_cannot_be_written_down_does_not_leave(site, context, update):
    (site / "audit.jsonl").mkdir()
    with pytest.raises(OutgoingError, match="MS-J119"):
        AuditFilter().process(update.to_shareable(), context)


def test_without_a_folder_nothing_leaves(context, update):
    context.set_prop(FLContextKey.WORKSPACE_OBJECT, None, private=True)
    with pytest.raises(OutgoingError, match="MS-J110"):
        AuditFilter().process(update.to_shareable(), context)


def test_a_bug_of_ours_stops_the_message_and_is_written_down(site, context, update, monkeypatch):
    monkeypatch.setattr("medseg.federated.privacy.audit_filter.released", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        AuditFilter().process(update.to_shareable(), context)
    assert [(row["verdict"], row["what"]) for row in manifest(site)] == [("refused", "ZeroDivisionError")]


def test_filters_that_a_job_brings_would_run_later_so_nothing_leaves(site, context, update):
    audit, other = AuditFilter(), object()
    task = "train" + FilterKey.DELIMITER + FilterKey.OUT
    runner = SimpleNamespace(task_result_filters={task: [other]})
    context.set_prop(FLContextKey.RUNNER, runner, private=True)
    for later in ([other], [audit, other], [AuditFilter()]):
        runner.task_result_filters[task] = later
        with pytest.raises(OutgoingError, match="MS-J118"):
            audit.process(update.to_shareable(), context)
    runner.task_result_filters[task] = [other, audit]  # as a simulation brings it
    audit.process(update.to_shareable(), context)
    runner.task_result_filters[task] = [other]
    context.set_prop(FLContextKey.TASK_NAME, "validate", private=True)
    audit.process(DXO(DataKind.METRICS, data={"loss": 0.5}).to_shareable(), context)
    assert [row["verdict"] for row in manifest(site)] == ["refused"] * 3 + ["sent"] * 2


def test_nvflare_runs_it_on_every_task_and_lets_its_error_through(context, update):
    """Scoped filters run whatever the job says, and an exception is what stops a result (client_runner.py)."""
    scope = Scope()
    scope.add_task_result_filter(AuditFilter(), FilterKey.OUT)
    context.set_prop(FLContextKey.SCOPE_OBJECT, scope, private=True)
    for task in ("train", "validate", "anything"):
        out = apply_filters("task_result_filters", update.to_shareable(), context, {}, task, FilterKey.OUT)
        assert isinstance(out, Shareable)
    update.data["image"] = torch.ones(3)
    with pytest.raises(OutgoingError):
        apply_filters("task_result_filters", update.to_shareable(), context, {}, "train", FilterKey.OUT)
