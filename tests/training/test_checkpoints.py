"""Checkpoints: a run that was stopped anywhere goes on bit for bit."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import MeanSquaredError, ValidationHandler, from_engine
from monai.transforms import Compose, RandScaleIntensityd
from monai.utils import set_determinism

from medseg.errors import InputError
from medseg.training import BudgetedSchedule, CaseLoader, Checkpoints, GradientGuard, MovingAverage
from medseg.training import checkpoints as checkpoints_module
from medseg.training.checkpoint_file import checkpoints, read_checkpoint

STEPS, EPOCHS = 4, 3


def made(folder, *, resume=False, seconds=0.0, width=4, accumulate=1, before=(), cases=8, validate=True):
    """A trainer of everything that a shipped bundle has, on random numbers, and what it consists of."""
    set_determinism(seed=0)
    data = [{"image": torch.randn(1, 6, 6, 6), "label": torch.randn(1, 6, 6, 6)} for _ in range(cases)]
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, width, 3, padding=1), torch.nn.Dropout(0.5), torch.nn.BatchNorm3d(width),
        torch.nn.Conv3d(width, 1, 1),
    )  # fmt: skip
    loader = CaseLoader(
        Dataset(data, Compose([RandScaleIntensityd("image", 0.5, 0.7)])), 2, shuffle=True, drop_last=True
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    ema = MovingAverage(network, momentum=0.01, momentum_warmup=0.5, warmup_iters=7)
    schedule, guard = BudgetedSchedule(optimizer, warmup=0.2), GradientGuard(network, max_norm=0.5)
    evaluator = SupervisedEvaluator(
        device="cpu", val_data_loader=DataLoader(Dataset(data[:2])), network=ema.ema_model,
        key_val_metric={"mse": MeanSquaredError(output_transform=from_engine(["pred", "label"]))},
        metric_cmp_fn=lambda now, best: now < best,
    )  # fmt: skip
    parts = {
        "model": network, "ema": ema.ema_model, "optimizer": optimizer, "schedule": schedule, "guard": guard,
        "loader": loader, "validation": evaluator,
    }  # fmt: skip
    saver = Checkpoints(str(folder), parts, resume=resume, seconds=seconds, share=1e9)
    handlers = [ema, schedule, guard, *([ValidationHandler(1, evaluator)] if validate else []), *before, saver]
    trainer = SupervisedTrainer(
        device="cpu", max_epochs=EPOCHS, train_data_loader=loader, network=network, optimizer=optimizer,
        loss_function=torch.nn.MSELoss(), train_handlers=handlers, decollate=False, accumulation_steps=accumulate,
    )  # fmt: skip
    return trainer, parts


def weights(parts) -> dict:
    found = {f"{name}.{key}": value for name in ("model", "ema") for key, value in parts[name].state_dict().items()}
    return found | {f"adam.{n}": one["exp_avg_sq"] for n, one in parts["optimizer"].state_dict()["state"].items()}


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


class StopAfter:
    """Sends this process a signal in the middle of a step."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.step, self.number = step, number

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_STARTED(once=self.step), lambda: os.kill(os.getpid(), self.number))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_stopped_after_any_step_goes_on_bit_for_bit(tmp_path, accumulate):
    trainer, parts = made(tmp_path / "whole", accumulate=accumulate)
    trainer.run()
    wanted, draws = weights(parts), torch.rand(3)
    best = parts["validation"].state
    for stop in range(1, STEPS * EPOCHS + 1):
        folder, number = tmp_path / str(stop), (signal.SIGTERM, signal.SIGINT)[stop % 2]
        trainer, parts = made(folder, accumulate=accumulate, seconds=1e9, before=[StopAfter(stop, number)])
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        reached = -(-stop // accumulate) * accumulate  # gradients that are being added up are waited for
        assert [int(path.name[7:15]) for path in checkpoints(folder)] == [reached]
        trainer, parts = made(folder, accumulate=accumulate, resume=True)
        trainer.run()
        assert trainer.state.iteration == STEPS * EPOCHS
        assert equal(weights(parts), wanted)
        assert torch.equal(torch.rand(3), draws)
        now = parts["validation"].state
        assert (now.best_metric, now.best_metric_epoch) == (best.best_metric, best.best_metric_epoch)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    trainer, parts = made(tmp_path, seconds=1e9)
    trainer.run()
    assert [int(path.name[7:15]) for path in checkpoints(tmp_path)] == [STEPS * EPOCHS]
    wanted = weights(parts)
    trainer, parts = made(tmp_path, resume=True)
    trainer.run()
    assert equal(weights(parts), wanted)


def test_a_damaged_checkpoint_costs_a_step_and_nothing_else(tmp_path):
    trainer, parts = made(tmp_path / "whole")
    trainer.run()
    wanted = weights(parts)
    trainer, parts = made(tmp_path / "run", before=[StopAfter(7, signal.SIGTERM)])
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    last, before = checkpoints(tmp_path / "run")
    last.write_bytes(last.read_bytes()[:-1])
    trainer, parts = made(tmp_path / "run", resume=True)
    trainer.run()
    assert equal(weights(parts), wanted)
    assert int(before.name[7:15]) == 6


def test_a_second_signal_stops_at_once(tmp_path):
    class Twice(StopAfter):
        def attach(self, engine):
            for _ in range(2):
                super().attach(engine)

    trainer, _ = made(tmp_path, seconds=1e9, before=[Twice(3, signal.SIGINT)])
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert checkpoints(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_signals_are_given_back_after_an_error(tmp_path):
    class Broken:
        def attach(self, engine):
            engine.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: 1 / 0)

    trainer, _ = made(tmp_path, before=[Broken()])
    with pytest.raises(ZeroDivisionError):
        trainer.run()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert len(checkpoints(tmp_path)) == 1


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    trainer, _ = made(tmp_path)
    trainer.run()
    for other, why in (({"cases": 6}, "have 4 steps, those of this run 3"), ({"width": 5}, "model does not fit")):
        trainer, _ = made(tmp_path, resume=True, **other)
        with pytest.raises(InputError, match=rf"MS-T163 [\s\S]*{why}"):
            trainer.run()
    trainer, _ = made(tmp_path / "none", resume=True)
    with pytest.raises(InputError, match="MS-T104"):
        trainer.run()


def test_of_several_processes_the_first_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints_module.idist, "get_rank", lambda: 1)
    trainer, _ = made(tmp_path)
    trainer.run()
    assert not list(tmp_path.iterdir())


def test_they_come_as_rarely_as_they_are_slow(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    trainer, parts = made(tmp_path, validate=False)
    one = Checkpoints(str(tmp_path), parts, seconds=10.0, share=0.02)
    monkeypatch.setattr(
        checkpoints_module, "write_checkpoint", lambda *_: (saved.append(trainer.state.iteration), tick(1.0))
    )
    saved: list[int] = []

    def tick(seconds):
        now[0] += seconds

    trainer.state.epoch_length = 1000
    one._begin(trainer)
    for step in range(1, 121):
        trainer.state.iteration = step
        tick(1.0)
        one._after_step(trainer)
    one._interrupts.release()
    assert saved == [10, 60, 110]  # the first after 10 s; each takes 1 s, which is 2 % of 50 s


def test_a_part_without_state_is_named():
    with pytest.raises(ValueError, match="no state_dict: loader"):
        Checkpoints("models", {"loader": DataLoader(Dataset([1]))})


def test_a_checkpoint_is_plain_data(tmp_path):
    trainer, _ = made(tmp_path)
    trainer.run()
    state = read_checkpoint(checkpoints(tmp_path)[0])
    assert state["iteration"] == STEPS * EPOCHS
    assert state["parts"]["loader"] == {"epoch": EPOCHS, "batch": STEPS}
    assert state["parts"]["validation"]["best_metric_epoch"] >= 1
