"""Early stopping: when it ends, and with which weights."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events

from medseg.bundle.weights import read_weights
from medseg.training import BestWeights, FinalWeights


def run(folder, scores, patience, restored=None):
    """A run whose validation of every second epoch gives these scores; weights are the number of the epoch."""
    model = torch.nn.Linear(1, 1, bias=False)
    validator = SimpleNamespace(state=SimpleNamespace(best_metric=-1.0, best_metric_epoch=-1))
    best = BestWeights(model, validator, patience)
    engine = Engine(lambda engine, _: model.weight.data.fill_(float(engine.state.epoch)))

    @engine.on(Events.EPOCH_COMPLETED(every=2))
    def validate(engine):
        score = scores[engine.state.epoch // 2 - 1]
        if score > validator.state.best_metric:
            validator.state.best_metric, validator.state.best_metric_epoch = score, engine.state.epoch

    best.attach(engine)
    FinalWeights(str(folder), model, best).attach(engine)
    engine.run([0, 0], max_epochs=2 * len(scores))
    return engine.state.epoch, float(read_weights(folder / "model.pt")["weight"]), best


@pytest.mark.parametrize(
    ("patience", "ended", "weights"),
    [(None, 12, 12.0), (4, 8, 4.0), (6, 12, 12.0)],
    ids=["no patience: the last", "stopped: the best", "patience rewarded"],
)
def test_the_run_ends_when_nothing_gets_better(tmp_path, patience, ended, weights):
    assert run(tmp_path, [0.5, 0.6, 0.6, 0.55, 0.7, 0.8], patience)[:2] == (ended, weights)


def test_a_checkpoint_keeps_the_best(tmp_path):
    best = run(tmp_path, [0.5, 0.6, 0.1, 0.1], 100)[2]
    again = BestWeights(torch.nn.Linear(1, 1), best.validator, 100)
    again.load_state_dict(best.state_dict())
    assert float(again.weights["weight"]) == 4.0
    assert again.state_dict()["epoch"] == 4
