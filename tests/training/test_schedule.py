"""The schedule: warm-up, cosine, end of budget, resume."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine, Events

from medseg.training import BudgetedSchedule
from medseg.training import schedule as schedule_module


def optimizer(lr: float = 0.1):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def run(schedule, epochs: int, length: int) -> tuple[Engine, list[float]]:
    rates: list[float] = []
    engine = Engine(lambda *_: rates.append(schedule.optimizer.param_groups[0]["lr"]))
    schedule.attach(engine)
    engine.run([0] * length, max_epochs=epochs)
    return engine, rates


def test_by_epochs_it_warms_up_then_falls_as_half_a_cosine():
    _, rates = run(BudgetedSchedule(optimizer(), warmup=0.1), epochs=10, length=10)
    assert len(rates) == 100
    assert rates[5] == pytest.approx(0.1 * 5 / 10)
    assert max(rates) == rates[10] == pytest.approx(0.1)
    assert rates[55] == pytest.approx(0.1 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert rates[-1] < 0.001


def test_by_minutes_it_stops_when_the_time_is_spent(monkeypatch):
    clock = iter(range(0, 10_000, 2))
    monkeypatch.setattr(schedule_module.time, "monotonic", lambda: next(clock))
    engine, rates = run(BudgetedSchedule(optimizer(), minutes=1.0), epochs=1000, length=10)
    assert 5 < len(rates) < 20
    assert rates[-1] < 0.02 < max(rates)
    assert engine.state.epoch < 1000


def test_a_resumed_run_goes_on_where_it_stopped():
    first = BudgetedSchedule(optimizer(), warmup=0.1)
    rates: list[float] = []
    engine = Engine(lambda *_: rates.append(first.optimizer.param_groups[0]["lr"]))
    first.attach(engine)
    kept = {}
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=4), lambda _: kept.update(first.state_dict()))
    engine.run([0] * 5, max_epochs=10)
    second = BudgetedSchedule(optimizer(), warmup=0.1)
    second.load_state_dict(kept)
    _, rest = run(second, epochs=10, length=5)
    assert rest == pytest.approx(rates[20:])
