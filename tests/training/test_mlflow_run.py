"""A training told to MLflow: the real one, in a local store, read again with its own client."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from ignite.engine import Engine, Events
from mlflow.exceptions import MlflowException

from medseg.errors import MissingExtraError, OutputError, UsageError
from medseg.training import Progress, mlflow_run
from medseg.training.mlflow_run import open_store, parameters, require_rows, store_of, tracked

CONFIG = {
    "dataset_dir": "D:/jane/scans",
    "bundle_root": "D:/jane/run",
    "validation": ["patient_7"],
    "epochs": 4,
    "patch_size": [40, 56, 40],
    "minutes": None,
    "base_loss": "@losses#dice_ce",
    "device": "$torch.device('cpu')",
    "network_def": {"_target_": "medseg.networks.UNet", "features": [4, 8]},
    "optimizer": {"lr": "@learning_rate", "params": "$@network.parameters()"},
    "losses": {"dice_ce": {"softmax": True}},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder with a store: making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow") / "store"
    open_store(str(folder))
    return folder


@pytest.fixture
def client(store, monkeypatch, request):
    """The store's own client; every test has an experiment of its own, and an address in the environment to be ignored."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)
    monkeypatch.setattr(mlflow_run, "_EVERY", 0.0)
    return open_store(str(store))


def train(store, out, epochs, *, begin=0, config=None, stop=None, failing=()):
    """Epochs of a trainer whose Progress gets a row each, as a run tells them; those before `begin` as from a checkpoint."""
    progress = Progress(str(out / "training"))
    progress.rows = [row(epoch) for epoch in range(1, begin + 1)]
    trainer = Engine(lambda *_: None)

    @trainer.on(Events.EPOCH_COMPLETED)
    def tell(engine):
        progress.rows.append(row(begin + engine.state.epoch))
        if stop is not None and begin + engine.state.epoch == stop[0]:
            raise stop[1]

    parts = {"train#handlers": [object(), progress], "train#trainer": trainer}
    parser = SimpleNamespace(get_parsed_content=parts.__getitem__, get=lambda: config or CONFIG)
    (out / "models").mkdir(parents=True, exist_ok=True)
    (out / "training").mkdir(exist_ok=True)
    with tracked(str(store), out, parser):
        trainer.run([0], max_epochs=epochs - begin)
        (out / "training" / "history.csv").write_text("epoch,loss\n", encoding="utf-8")
    return progress


def row(epoch):
    scored = (
        {"val_mean_dice": 0.1 * epoch, "Left, upper (nsd@1mm)": 0.2, "nothing": float("nan")} if epoch % 2 == 0 else {}
    )
    return {
        "epoch": float(epoch),
        "step": 5.0 * epoch,
        "minutes": 0.5 * epoch,
        "rate": 1e-3,
        "loss": 1 / epoch,
    } | scored


def the_run(client, name):
    experiment = client.get_experiment_by_name(name)
    (found,) = client.search_runs([experiment.experiment_id])
    return found


def history(client, run, name):
    return {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, name)}


def test_what_the_rows_say_is_in_the_store_and_nothing_of_cases_or_places(client, store, tmp_path, request):
    out = tmp_path / "cv" / "fold_1"
    progress = train(store, out, 4)
    run = the_run(client, request.node.name)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "cv/fold_1")
    assert run.data.params == {
        "epochs": "4", "patch_size": "[40, 56, 40]", "minutes": "None", "base_loss": "@losses#dice_ce",
        "network_def._target_": "medseg.networks.UNet", "network_def.features": "[4, 8]", "optimizer.lr": "@learning_rate",
    }  # fmt: skip
    assert history(client, run, "loss") == {int(one["step"]): one["loss"] for one in progress.rows}
    assert history(client, run, "validation/val_mean_dice") == {10: 0.2, 20: 0.4}
    assert history(client, run, "validation/Left_ upper _nsd_1mm_") == {10: 0.2, 20: 0.2}
    assert not history(client, run, "validation/nothing")
    (artifact,) = client.list_artifacts(run.info.run_id, "training")
    assert artifact.path == "training/history.csv"
    assert (store / "artifacts").is_dir()
    assert len(list((store / "artifacts").rglob("history.csv"))) >= 1
    said = str(run.to_dictionary())
    assert not any(word in said for word in ("jane", "patient_7"))


def test_a_stopped_run_goes_on_in_the_same_run_and_tells_nothing_twice(client, store, tmp_path, request):
    with pytest.raises(KeyboardInterrupt):
        train(store, tmp_path, 4, stop=(3, KeyboardInterrupt()))
    first = the_run(client, request.node.name)
    assert first.info.status == "KILLED"
    assert sorted(history(client, first, "loss")) == [5, 10, 15]  # the row of the epoch in which it was stopped too
    train(store, tmp_path, 6, begin=2, config={**CONFIG, "epochs": 6})  # its checkpoint was of epoch 2
    again = the_run(client, request.node.name)
    assert again.info.run_id == first.info.run_id
    assert again.info.status == "FINISHED"
    told = client.get_metric_history(again.info.run_id, "loss")
    assert [metric.step for metric in told] == [5, 10, 15, 20, 25, 30]
    assert again.data.params["epochs"] == "4"
    assert again.data.tags["resumed.epochs"] == "6"


def test_a_run_that_fails_is_marked_and_its_error_comes_through(client, store, tmp_path, request):
    with pytest.raises(ZeroDivisionError):
        train(store, tmp_path, 2, stop=(1, ZeroDivisionError()))
    assert the_run(client, request.node.name).info.status == "FAILED"


def test_a_store_that_fails_for_a_while_ends_nothing_and_gets_it_all_later(
    client, store, tmp_path, request, monkeypatch, caplog
):
    kind, calls = type(client), []
    log_batch = kind.log_batch

    def unwell(self, *args, **named):
        calls.append(1)
        if len(calls) <= 2:
            raise MlflowException("the server is away")
        return log_batch(self, *args, **named)

    monkeypatch.setattr(kind, "log_batch", unwell)
    train(store, tmp_path, 4)
    assert "MLflow could not be told (the server is away); the training goes on" in caplog.text
    assert sorted(history(client, the_run(client, request.node.name), "loss")) == [5, 10, 15, 20]


def test_a_store_that_does_not_know_the_run_gets_a_new_one_with_all_rows(client, store, tmp_path, request, caplog):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mlflow.json").write_text('{"run_id": "0123456789abcdef0123456789abcdef"}', encoding="utf-8")
    train(store, tmp_path, 3, begin=2)
    assert "MLflow does not know this run" in caplog.text
    assert sorted(history(client, the_run(client, request.node.name), "loss")) == [5, 10, 15]


def test_without_a_place_nothing_is_touched(tmp_path):
    with tracked(None, tmp_path, None):
        pass
    assert not list(tmp_path.iterdir())


def test_places(tmp_path):
    assert store_of("http://host:5000") == "http://host:5000"
    assert store_of(str(tmp_path / "a")) == f"sqlite:///{tmp_path}/a/mlflow.db"
    assert store_of((tmp_path / "a b").as_uri()) == f"sqlite:///{tmp_path}/a b/mlflow.db"


def test_a_store_that_cannot_be_reached_is_refused_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(OutputError, match="MS-T178") as refused:
        open_store("http://jane:sesame@127.0.0.1:9")
    assert "sesame" not in str(refused.value)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="MS-T178"):
        open_store(str(tmp_path / "file"))


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(mlflow_run, "find_spec", lambda name: None if name == "alembic" else object())
    with pytest.raises(MissingExtraError, match=r'MS-T169 .*alembic[\s\S]*pip install "medseg\[mlflow\]"'):
        open_store("somewhere")
    monkeypatch.setattr(mlflow_run, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"MS-T169 .*needs mlflow, which"):
        open_store("http://host:5000")


def test_a_recipe_without_progress_has_nothing_to_tell():
    require_rows({"train": {"handlers": [{"_target_": "medseg.training.Progress"}]}})
    with pytest.raises(UsageError, match=r"MS-T179 [\s\S]*medseg.training.Progress"):
        require_rows({"train": {"handlers": []}})
    assert parameters({"a": [1, "$os.remove('x')"], "b": {"c": 1}}) == {}


def test_importing_medseg_keeps_mlflow_from_reporting_to_its_makers():
    """MLflow decides when it is imported, and MONAI imports it; in CI and under pytest it never reports."""
    hidden = ("MLFLOW", "CI", "PYTEST", "GITHUB", "DO_NOT_TRACK", "JENKINS", "TRAVIS", "GITLAB", "TF_BUILD")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    code = "import medseg, mlflow.telemetry.client as c, mlflow; print(c.is_telemetry_disabled(), c._MLFLOW_TELEMETRY_CLIENT)"
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "None"]
