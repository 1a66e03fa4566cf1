"""How long to train, how often to validate, what stays in memory.

With `--minutes` the schedule fits the time and the epochs do not matter. Without, an epoch is one look at every case
(`LEAST_STEPS` of them at least, so that a few cases still make an epoch), and there are as many as make `STEPS` steps, what
took the hippocampus bundle to its plateau.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.training.plan.choice import Choice, many

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS = 12_000
LEAST_STEPS = 20
_FEWEST_EPOCHS = 50
#: Share of the time that validation may take.
_VALIDATION = 0.015
_INTERVALS = (1, 2, 5, 10, 20, 50)
#: Bytes of a cached voxel: float32 for each channel and for the label map.
_FLOAT = 4


@dataclass(frozen=True)
class Pace:
    """Numbers of train.json.

    Args:
        epochs: without `--minutes`.
        val_interval: epochs between validations.
        at_least: cases that an epoch has at least, 0 where there are enough.
        cache_rate: share of the cases that stay in memory.
        cache_gb: what they may take, 1e9 bytes.
        choices: what and why.
    """

    epochs: int
    val_interval: int
    at_least: int
    cache_rate: float
    cache_gb: float
    choices: tuple[Choice, ...]


def pace_of(
    train: np.ndarray, validation: np.ndarray, patch: Sequence[int], batch: int, channels: int, cache_bytes: float
) -> Pace:
    """Choose.

    Args:
        train: (N, 3) voxels of the training cases on the network's grid.
        validation: (M, 3) of the others.
        patch: voxels.
        batch: patches at a time.
        channels: of the image.
        cache_bytes: what cached cases may take.
    """
    least = batch * LEAST_STEPS
    rounds = -(-least // len(train))
    cases = len(train) * rounds
    steps = cases // batch
    epochs = max(_FEWEST_EPOCHS, round(STEPS / steps / 10) * 10)
    # A window costs a third of a training step's patch; windows overlap by half.
    windows = np.prod(np.maximum(np.ceil((validation - patch) / (0.5 * np.asarray(patch))), 0) + 1, axis=1).sum()
    wanted = float(windows) / 3 / (_VALIDATION * cases)
    interval = next((n for n in _INTERVALS if n >= wanted), _INTERVALS[-1])
    need = float(np.prod(np.concatenate([train, validation]), axis=1).sum()) * _FLOAT * (channels + 1)
    rate = 1.0 if need <= cache_bytes else max(0.0, float(np.floor(100 * cache_bytes / need) / 100))
    repeated = f" ({many(len(train), 'case')}, seen {rounds} times)" if rounds > 1 else ""
    return Pace(
        epochs,
        interval,
        cases if rounds > 1 else 0,
        rate,
        round(cache_bytes / 1e9, 3),
        (
            Choice(
                "epochs",
                str(epochs),
                f"{steps} steps an epoch{repeated}, about {STEPS} steps in all; --minutes N fits any time",
            ),
            Choice(
                "validation",
                f"every {interval} epochs",
                f"{windows:.0f} windows, at most {_VALIDATION:.1%} of the time",
            ),
            Choice(
                "cache",
                f"{rate:.0%} of the cases",
                f"prepared they take {need / 1e9:.2g} GB, {cache_bytes / 1e9:.2g} GB are free",
            ),
        ),
    )
