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


def test_by_epochs_it_follows_from_the_iteration_that_a_resumed_run_begins_with():
    _, rates = run(BudgetedSchedule(optimizer(), warmup=0.1), epochs=10, length=5)
    second = BudgetedSchedule(optimizer(), warmup=0.1)
    rest: list[float] = []
    engine = Engine(lambda *_: rest.append(second.optimizer.param_groups[0]["lr"]))
    second.attach(engine)

    @engine.on(Events.STARTED)
    def go_on(engine):
        engine.state.epoch, engine.state.iteration = 4, 23

    engine.run([0] * 5, max_epochs=10)
    assert rest == rates[23:]


def test_by_minutes_a_resumed_run_has_what_is_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(schedule_module.time, "monotonic", lambda: now[0])
    first = BudgetedSchedule(optimizer(), minutes=2.0)
    engine = Engine(lambda *_: now.__setitem__(0, now[0] + 1.0))
    first.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=30), lambda engine: engine.terminate())
    engine.run([0] * 10, max_epochs=1000)
    kept = first.state_dict()
    assert kept == {"spent_s": 30.0}
    steps: list[int] = []
    second = BudgetedSchedule(optimizer(), minutes=2.0)
    engine = Engine(lambda *_: (now.__setitem__(0, now[0] + 1.0), steps.append(1)))
    second.attach(engine)

    @engine.on(Events.STARTED)
    def restore(engine):
        now[0] += 1000.0  # loading takes time that is not the budget's
        second.load_state_dict(kept)

    engine.run([0] * 10, max_epochs=1000)
    assert len(steps) == 90
    third = BudgetedSchedule(optimizer(), minutes=2.0)
    third.load_state_dict({"spent_s": 120.0})
    engine, rates = run(third, epochs=10, length=5)
    assert rates == []
