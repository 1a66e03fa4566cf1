"""What a run tells: lines, table, curves, events; and that a resumed run goes on telling."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events

from medseg.training import BudgetedSchedule, Progress
from medseg.training import progress as module

LABELS = [{"value": 1, "name": "Head"}, {"value": 2, "name": "Tail"}]


def run(folder, epochs=4, length=5, restored=None, labels=LABELS, minutes=None):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = BudgetedSchedule(optimizer, minutes)
    state = SimpleNamespace(epoch=0, metrics={}, metric_details={}, key_metric_name="val_mean_dice")
    validator = SimpleNamespace(state=state)
    progress = Progress(None if folder is None else f"{folder}/models/../training", schedule, validator, labels)
    engine = Engine(lambda engine, _: {"loss": torch.tensor(1.0 / engine.state.iteration)})
    schedule.attach(engine)

    @engine.on(Events.EPOCH_COMPLETED(every=2))
    def validate(engine):
        state.epoch = engine.state.epoch
        scores = torch.tensor([[0.5, 0.7], [0.3, float("nan")]])
        state.metrics = {"val_nsd": 0.9, "val_mean_dice": 0.5, "curve": [1, 2]}
        state.metric_details = {"val_mean_dice": scores}

    progress.attach(engine)
    if restored is not None:

        @engine.on(Events.STARTED)
        def restore(engine):
            progress.load_state_dict(restored)
            engine.state.epoch, engine.state.iteration = 2, 2 * length

    engine.run([0] * length, max_epochs=epochs)
    return progress


def test_table_curves_and_events_lie_in_the_folder(tmp_path, capsys):
    progress = run(tmp_path)
    names = sorted(path.name for path in (tmp_path / "training").iterdir())
    assert names[:2] == ["curves.html", "curves.png"]
    assert names[2].startswith("events.out.tfevents.")
    assert names[3:] == ["history.csv"]
    with (tmp_path / "training" / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert float(rows[0]["loss"]) == pytest.approx(sum(1 / n for n in range(1, 6)) / 5)
    assert list(rows[0])[5:] == ["val_mean_dice", "val_nsd", "Head", "Tail"]
    assert rows[2]["Head"] == ""
    assert (float(rows[3]["Head"]), float(rows[3]["Tail"])) == pytest.approx((0.4, 0.7))
    assert b"validation/Head" in next((tmp_path / "training").glob("events*")).read_bytes()
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert len(told) == 2  # only of epochs that were validated
    assert told[1].startswith("epoch 4/4  step 5/5  loss 0.0")
    assert "val_mean_dice 0.500" in told[1]
    assert "Tail 0.700" in told[1]
    assert progress.rows[3]["step"] == 20


def test_a_terminal_gets_a_line_that_is_kept_up_to_date(monkeypatch, capsys):
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(module, "_LINE", 0.0)
    run(None, epochs=3, minutes=60.0)
    told = capsys.readouterr().err
    assert "\r\x1b[Kepoch 1  step 3/5  loss 0.6111" in told
    assert " left" in told


def test_a_resumed_run_goes_on_with_the_table(tmp_path):
    whole = run(tmp_path / "a")
    first = run(tmp_path / "b", epochs=2)
    state = first.state_dict()
    rest = run(tmp_path / "b", epochs=4, restored=state)
    same = ("epoch", "step", "loss", "val_mean_dice", "Head")
    assert [[row.get(key) for key in same] for row in rest.rows] == [
        [row.get(key) for key in same] for row in whole.rows
    ]
    assert rest.rows[2]["minutes"] >= first.rows[1]["minutes"]
    assert len(list((tmp_path / "b" / "training").glob("events*"))) == 2


def test_without_folder_nothing_is_written_and_unnamed_structures_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    progress = run(None, labels=())
    assert list(tmp_path.iterdir()) == []
    assert progress.rows[1]["structure 1"] == pytest.approx(0.4)
