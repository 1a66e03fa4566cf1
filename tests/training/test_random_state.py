"""The state of the random generators, through a checkpoint file."""

from __future__ import annotations

import random

import numpy as np
import torch

from medseg.training.checkpoint_file import read_checkpoint, write_checkpoint
from medseg.training.random_state import random_state, set_random_state


def draw() -> list[float]:
    numbers = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn()]  # noqa: NPY002
    return [*numbers, float(torch.rand(())), float(torch.randn(()))]


def test_what_is_drawn_after_a_restore_is_what_was_drawn_before(tmp_path):
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(3)
    draw()  # gauss and randn keep a second number
    path = write_checkpoint(tmp_path, random_state(), 1)
    wanted = [draw() for _ in range(5)]
    draw()
    set_random_state(read_checkpoint(path))
    assert [draw() for _ in range(5)] == wanted
