"""The server's side of the statistics with a fake engine: whoever answers is compared, whoever does not is left out."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.shareable import make_reply
from nvflare.apis.signal import Signal

from medseg.federated.stats.controller import FETCHED, StatsController
from medseg.federated.stats.exchange import heard, told
from medseg.federated.stats.executor import STATS, StatsExecutor
from medseg.federated.stats.report import CONSORTIUM, PICTURE, REPORT
from medseg.federated.stats.survey import survey

FAILURE = "failure.json"


class Context:
    """What controller and executor ask NVFLARE's context for."""

    def __init__(self, root):
        (root / "local").mkdir(parents=True, exist_ok=True)
        self.workspace = SimpleNamespace(
            get_root_dir=lambda: str(root),
            get_site_config_dir=lambda: str(root / "local"),
            get_run_dir=lambda job: str(root / job),
        )

    def get_prop(self, key, default=None):
        return self.workspace if key == FLContextKey.WORKSPACE_OBJECT else default

    def get_job_id(self):
        return "job"


class Fake(StatsController):
    """Tasks reach `sites`, name -> function of the task's data, in this process; one that gives None is silent."""

    def __init__(self, sites, **said):
        super().__init__(**said)
        self.sites, self.said, self.panics, self.gone = sites, [], [], set()
        self._engine = SimpleNamespace(get_clients=lambda: [SimpleNamespace(name=name) for name in sites])

    def broadcast(self, task, fl_ctx, targets=None, min_responses=0, **more):
        for name in targets:
            client_task = SimpleNamespace(client=SimpleNamespace(name=name), task=task, result=None)
            task.after_task_sent_cb(client_task, fl_ctx)
            client_task.result = self.sites[name](task.data)
            if client_task.result is None:
                self.gone.add(name)
            else:
                task.result_received_cb(client_task, fl_ctx)

    def get_client_disconnect_time(self, name):
        return 1.0 if name in self.gone else None

    def cancel_task(self, task, **more):
        pass

    def log_warning(self, fl_ctx, text, **more):
        self.said.append(text)

    def log_exception(self, fl_ctx, text, **more):
        self.said.append(text)

    def system_panic(self, reason, fl_ctx):
        self.panics.append(reason)


@pytest.fixture(scope="module")
def surveys(cubes, tmp_path_factory):
    root = tmp_path_factory.mktemp("sites")
    numbers = {"a": range(6), "b": range(10, 16), "c": range(20, 26)}
    return {name: survey(cubes(root / name, those)) for name, those in numbers.items()}


def answering(seen, **more):
    return lambda task: DXO(DataKind.STATISTICS, data=told(seen, task["DXO"]["data"], **more)).to_shareable()


def run(sites, root, **said):
    controller = Fake(sites, deadline_s=5, grace_s=0, **said)
    controller.control_flow(Signal(), Context(root))
    return controller, root / "medseg_results" / "stats"


def test_all_sites_are_compared(surveys, tmp_path):
    controller, out = run({name: answering(seen) for name, seen in surveys.items()}, tmp_path)
    assert (controller.panics, controller.said) == ([], [])
    report = json.loads((out / REPORT).read_text("utf-8"))
    assert (list(report["sites"]), report["pooled"]["cases"]) == (["a", "b", "c"], 18)
    assert report["pooled"]["channels"][0]["bins"] is not None, "the second question asks for histograms"
    assert {path.name for path in (tmp_path / "job" / FETCHED).iterdir()} == {CONSORTIUM, REPORT, PICTURE}


def test_sites_that_are_gone_fail_or_send_something_else_are_left_out_by_name(surveys, tmp_path):
    sites = {
        "a": answering(surveys["a"]),
        "b": answering(surveys["b"]),
        "broken": lambda task: make_reply(ReturnCode.EXECUTION_EXCEPTION),
        "filtered": lambda task: make_reply(ReturnCode.TASK_RESULT_FILTER_ERROR),
        "killed": lambda task: None,
        "strange": lambda task: DXO(DataKind.STATISTICS, data={"file": "a.nii.gz"}).to_shareable(),
    }
    controller, out = run(sites, tmp_path)
    assert controller.panics == []
    assert list(json.loads((out / REPORT).read_text("utf-8"))["sites"]) == ["a", "b"]
    first = controller.said[:4]
    for name, why in (("broken", "its own log"), ("filtered", "privacy policy"), ("killed", "sent nothing"), ("strange", "MS-J170")):  # fmt: skip
        assert any(f"site {name} is left out" in line and why in line for line in first)


@pytest.mark.parametrize("error", [RuntimeError, OverflowError, RecursionError])
def test_what_goes_wrong_with_one_answer_stops_nobody_else(surveys, tmp_path, monkeypatch, error):
    def judge(data):
        if data.get("odd"):
            raise error
        return heard(data)

    monkeypatch.setattr("medseg.federated.stats.controller.heard", judge)
    sites = {name: answering(surveys[name]) for name in "ab"}
    sites["odd"] = lambda task: DXO(DataKind.STATISTICS, data={"odd": True}).to_shareable()
    controller, out = run(sites, tmp_path)
    assert controller.panics == []
    assert list(json.loads((out / REPORT).read_text("utf-8"))["sites"]) == ["a", "b"]
    assert any("site odd is left out" in line and error.__name__ in line for line in controller.said)


def test_held_out_sites_agree_on_nothing_and_are_compared(surveys, tmp_path):
    sites = {"a": answering(surveys["a"]), "b": answering(surveys["b"]), "t": answering(surveys["c"], held_out=True)}
    _, out = run(sites, tmp_path)
    report = json.loads((out / REPORT).read_text("utf-8"))
    assert (report["held_out"], report["pooled"]["cases"]) == (["t"], 12)


@pytest.mark.parametrize(
    ("names", "what"), [("a", "1 are connected"), ("ax", "1 of 2 answered"), ("", "0 are connected")]
)
def test_below_the_quorum_the_job_fails_and_says_why(surveys, tmp_path, names, what):
    sites = {name: answering(surveys[name]) if name in surveys else (lambda task: None) for name in names}
    controller, out = run(sites, tmp_path)
    assert len(controller.panics) == 1
    said = json.loads((out / FAILURE).read_text("utf-8"))
    assert said["code"] == "MS-J174"
    assert what in said["what"]
    assert not (out / REPORT).exists()


def test_a_bundle_that_the_server_does_not_have_as_it_was_agreed_fails(surveys, small_recipe, tmp_path):
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "medseg_site.yaml").write_text(f"bundle: {small_recipe}\n", encoding="utf-8")
    controller, out = run({"a": answering(surveys["a"])}, tmp_path, bundle="other", bundle_hash="0" * 64)
    assert json.loads((out / FAILURE).read_text("utf-8"))["code"] == "MS-J010"
    assert controller.panics


def executed(root, data, asked, task=STATS, **said):
    context = Context(root)
    lines = [f"data: {data}\n", *(f"{key}: {value}\n" for key, value in said.pop("site", {}).items())]
    (root / "local" / "medseg_site.yaml").write_text("".join(lines), encoding="utf-8")
    question = DXO(DataKind.APP_DEFINED, data=asked).to_shareable()
    return StatsExecutor(**said).execute(task, question, context, Signal())


def test_a_site_answers_of_the_data_that_its_own_file_names(surveys, cubes, tmp_path):
    data = cubes(tmp_path / "data", range(6))
    found = executed(tmp_path / "kit", data, {"at_least": 5, "bins": []}, site={"held_out": "true"})
    assert found.get_return_code() == ReturnCode.OK
    assert found["DXO"]["data"] == told(surveys["a"], {"at_least": 5, "bins": []}, held_out=True)


def test_a_site_that_cannot_answer_sends_a_code_and_no_word(small_recipe, cubes, tmp_path):
    asked = {"at_least": 5, "bins": []}
    for data, more in (
        (tmp_path / "SURNAME", {}),
        (cubes(tmp_path / "data", range(6)), {"bundle": str(small_recipe), "bundle_hash": "0" * 64}),
        (tmp_path / "data", {"task": "other"}),
    ):
        found = executed(tmp_path / "kit", data, asked, **more)
        assert found.get_return_code() in (ReturnCode.EXECUTION_EXCEPTION, ReturnCode.TASK_UNSUPPORTED)
        assert "SURNAME" not in str(dict(found))
        assert "DXO" not in found
