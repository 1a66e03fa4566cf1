"""The weights of a finished run."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from medseg.bundle.weights import read_weights
from medseg.training import FinalWeights
from medseg.training import final as final_module


def run(folder, step=lambda *_: None):
    network = torch.nn.Linear(2, 2)
    engine = Engine(step)
    FinalWeights(str(folder / "models"), network).attach(engine)
    engine.run([0])
    return network


def test_they_are_written_at_the_end_whole(tmp_path):
    network = run(tmp_path)
    assert torch.equal(read_weights(tmp_path / "models" / "model.pt")["weight"], network.weight)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["model.pt"]


def test_not_by_a_run_that_failed_and_not_by_another_process(tmp_path, monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, lambda *_: 1 / 0)
    monkeypatch.setattr(final_module.idist, "get_rank", lambda: 1)
    run(tmp_path)
    assert not (tmp_path / "models").exists()
